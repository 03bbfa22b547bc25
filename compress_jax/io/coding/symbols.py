"""Symbols by their contexts' tables: the step that every array ends in."""

from __future__ import annotations

import math

import numpy as np

from compress_jax.io.coding import contexts, tables
from compress_jax.io.coding.contexts import Classes
from compress_jax.io.coding.stream import LARGEST_SIZE, CodingError, Reader, Writer

LARGEST = 1 << 39  # magnitude of a number


def write(writer: Writer, symbols: np.ndarray, context: np.ndarray | None = None,
          count: int = 1) -> None:
  """Writes whole numbers, each by its context's table.

  Args:
    writer: the stream.
    symbols: integers below LARGEST, one-dimensional; they span at most 65536.
    context: uint8 like symbols, below `count`; None for a single one.
    count: of contexts.

  Raises:
    ValueError: they span more.

  Example:
    >>> writer = Writer()
    >>> write(writer, np.array([3, -1, 3]))
    >>> read(Reader(writer.getvalue()), 3).tolist()
    [3, -1, 3]
  """
  if not len(symbols):
    return
  low, high = int(symbols.min()), int(symbols.max())
  span = high - low
  if span >= LARGEST_SIZE:
    raise ValueError(f"symbols from {low} to {high}; must span at most {LARGEST_SIZE}")
  writer.number(_folded(low))
  writer.number(span)
  if span == 0:
    return
  # Narrow dtypes could not hold the difference of their own ends.
  symbols = symbols.astype(np.promote_types(symbols.dtype, np.int32))
  symbols = (symbols - symbols.dtype.type(low)).astype(np.int32)
  sizes = [len(symbols)]
  if context is not None:
    # All of one context after each other: one table at a time.
    sizes = np.bincount(context, minlength=count)
    symbols = symbols[np.argsort(context, kind="stable")]
  start = 0
  for size in sizes:
    if size:
      _write_part(writer, symbols[start:start + size], span)
    start += size


def _write_part(writer: Writer, symbols: np.ndarray, span: int) -> None:
  """Writes symbols from 0 to `span` by a table of their own."""
  table = tables.fit(np.bincount(symbols), 0, (0, span))
  table.write(writer, (0, span))
  writer.symbols(symbols - table.low, table.weights())


def _folded(x: int) -> int:
  """Returns 0, 1, 2, 3, 4, ... for 0, -1, 1, -2, 2, ..."""
  return 2 * x if x >= 0 else -2 * x - 1


def _unfolded(x: int) -> int:
  """Reverses `_folded`."""
  return x // 2 if x % 2 == 0 else -(x + 1) // 2


def read(reader: Reader, length: int, context: np.ndarray | None = None,
         count: int = 1) -> np.ndarray:
  """Reads what `write` wrote.

  Args:
    reader: the stream.
    length: how many numbers.
    context: as given to `write`.
    count: as given to `write`.

  Returns:
    int32 vector; int64 where the numbers need it.

  Raises:
    CodingError: not what `write` writes.
  """
  if not length:
    return np.zeros(0, np.int32)
  low = _unfolded(reader.number(2 * LARGEST))
  span = reader.number(LARGEST_SIZE - 1)
  dtype = np.int32 if abs(low) + span < 2**31 else np.int64
  if span == 0:
    return np.full(length, low, dtype)
  if context is None:
    return _read_part(reader, length, span).astype(dtype) + dtype(low)
  sizes = np.bincount(context, minlength=count).tolist()
  ordered = np.concatenate([_read_part(reader, size, span) for size in sizes if size])
  out = np.empty(length, dtype)
  out[np.argsort(context, kind="stable")] = ordered.astype(dtype) + dtype(low)
  return out


def _read_part(reader: Reader, size: int, span: int) -> np.ndarray:
  """Reverses `_write_part`."""
  table = tables.read(reader, (0, span))
  return reader.symbols(table.weights(), size) + np.int32(table.low)


def count_present(shape: tuple[int, int, int], present: np.ndarray | None) -> int:
  """Returns how many elements of an array are present.

  Args:
    shape: of the array, as `contexts.view` gives it.
    present: bool, of every element of the array; None for all.
  """
  return math.prod(shape) if present is None else int(np.count_nonzero(present))


def write_placed(writer: Writer, symbols: np.ndarray, shape: tuple[int, int, int],
                 present: np.ndarray | None = None) -> None:
  """Writes elements of an array, with classes of its channels where they pay.

  Args:
    writer: the stream.
    symbols: integers, one-dimensional: the elements that are present, in order.
    shape: of the array, as `contexts.view` gives it.
    present: bool, of every element of the array; None for all.
  """
  if not len(symbols):
    return
  classes = contexts.choose(contexts.coarse(symbols), shape, present)[0]
  write_classes(writer, classes)
  write(writer, symbols, classes.contexts(shape, present), classes.count())


def read_placed(reader: Reader, shape: tuple[int, int, int],
                present: np.ndarray | None = None) -> np.ndarray:
  """Reads what `write_placed` wrote.

  Args:
    reader: the stream.
    shape: as given to `write_placed`.
    present: as given to `write_placed`.

  Returns:
    int32 or wider, one-dimensional: the elements that are present.

  Raises:
    CodingError: not what `write_placed` writes.
  """
  length = count_present(shape, present)
  if not length:
    return np.zeros(0, np.int32)
  classes = read_classes(reader, shape)
  return read(reader, length, classes.contexts(shape, present), classes.count())


def write_classes(writer: Writer, classes: Classes) -> None:
  """Writes which axes have classes, and which class each index is in.

  Args:
    writer: the stream.
    classes: from `contexts.choose`.
  """
  # One bit per axis: set where it has classes.
  chosen = 0
  for axis, x in enumerate(classes.of):
    if x is not None:
      chosen |= 1 << axis
  writer.uniform(chosen, 8)
  for x in classes.of:
    if x is not None:
      write(writer, x)


def read_classes(reader: Reader, shape: tuple[int, int, int]) -> Classes:
  """Reads what `write_classes` wrote.

  Args:
    reader: the stream.
    shape: of the array, as `contexts.view` gives it.

  Returns:
    The classes.

  Raises:
    CodingError: more contexts than `write_classes` writes.
  """
  chosen, classes = reader.uniform(8), Classes()
  for axis, length in enumerate(shape):
    if not (chosen >> axis) & 1:
      continue
    x = read(reader, length)
    if not 0 <= int(x.min()) <= int(x.max()) < contexts.MOST:
      raise CodingError(f"class {int(x.max())}; must be 0 to {contexts.MOST - 1}")
    classes = classes.replaced(axis, x.astype(np.uint8))
  if classes.count() > contexts.MOST:
    raise CodingError(f"{classes.count()} contexts; must be 1 to {contexts.MOST}")
  return classes

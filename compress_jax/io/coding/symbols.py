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
  if high - low >= LARGEST_SIZE:
    raise ValueError(f"symbols from {low} to {high}; may span at most {LARGEST_SIZE}")
  writer.number(2 * abs(low) - (low < 0))
  writer.number(high - low)
  if low == high:
    return
  sizes = None if context is None else np.bincount(context, minlength=count)
  symbols = symbols.astype(np.promote_types(symbols.dtype, np.int32))
  symbols = (symbols - symbols.dtype.type(low)).astype(np.int32)
  ordered = symbols if context is None else symbols[np.argsort(context, kind="stable")]
  start = 0
  for size in [len(symbols)] if sizes is None else sizes:
    if size:
      part = ordered[start:start + size]
      table = tables.fit(np.bincount(part), 0, (0, high - low))
      table.write(writer, (0, high - low))
      writer.symbols(part - table.low, table.weights())
    start += size


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
  low = reader.number(2 * LARGEST)
  low = -(low + 1) // 2 if low % 2 else low // 2
  span = reader.number(LARGEST_SIZE - 1)
  dtype = np.int32 if abs(low) + span < 2**31 else np.int64
  if span == 0:
    return np.full(length, low, dtype)
  sizes = [length] if context is None else np.bincount(context, minlength=count).tolist()
  parts = [_read_part(reader, size, span) for size in sizes if size]
  ordered = (np.concatenate(parts) if len(parts) > 1 else parts[0]).astype(dtype) + dtype(low)
  if context is None:
    return ordered
  out = np.empty(length, dtype)
  out[np.argsort(context, kind="stable")] = ordered
  return out


def _read_part(reader: Reader, size: int, span: int) -> np.ndarray:
  table = tables.read(reader, (0, span))
  return reader.symbols(table.weights(), size) + np.int32(table.low)


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
  """Reads what `write_placed` wrote; arguments as there."""
  length = math.prod(shape) if present is None else int(np.count_nonzero(present))
  if not length:
    return np.zeros(0, np.int32)
  classes = read_classes(reader, shape)
  return read(reader, length, classes.contexts(shape, present), classes.count())


def write_classes(writer: Writer, classes: Classes) -> None:
  """Writes which axes have classes, and which class each index is in."""
  writer.uniform(sum((x is not None) << i for i, x in enumerate(classes.of)), 8)
  for x in classes.of:
    if x is not None:
      write(writer, x)


def read_classes(reader: Reader, shape: tuple[int, int, int]) -> Classes:
  """Reads what `write_classes` wrote.

  Raises:
    CodingError: more contexts than `write_classes` writes.
  """
  chosen = reader.uniform(8)
  of = tuple(read(reader, n) if chosen >> i & 1 else None for i, n in enumerate(shape))
  for x in of:
    if x is not None and not 0 <= int(x.min()) <= int(x.max()) < contexts.MOST:
      raise CodingError(f"class {int(x.max())}; may be 0 to {contexts.MOST - 1}")
  classes = Classes(tuple(None if x is None else x.astype(np.uint8) for x in of))
  if classes.count() > contexts.MOST:
    raise CodingError(f"{classes.count()} contexts; may be 1 to {contexts.MOST}")
  return classes

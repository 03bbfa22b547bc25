"""Floats, to the last bit: exponents by a model, or a dictionary where values recur."""

from __future__ import annotations

import math

import numpy as np

from compress_jax.io.coding import integers, masks
from compress_jax.io.coding.stream import CodingError, Reader, Writer

_KINDS = ("planes", "apart", "dictionary")
_RECURRING = 8  # times that a value occurs on average, for a dictionary
_ENTRIES = 4096
_SAMPLE = 1 << 16


def write(writer: Writer, x: np.ndarray, shape: tuple[int, int, int],
          present: np.ndarray | None = None) -> Writer:
  """Writes floats the cheapest way.

  Args:
    writer: the stream; not to be used further.
    x: the bits as unsigned integers, one-dimensional: the elements that are present.
    shape: of the array, as `contexts.view` gives it.
    present: bool, of every element of the array; None for all.

  Returns:
    The stream to go on with.

  Example:
    >>> bits = np.array([0.0, 1.0, -0.0], np.float32).view(np.uint32)
    >>> writer = write(Writer(), bits, (1, 1, 3))
    >>> read(Reader(writer.getvalue()), 4, (1, 1, 3)).view(np.float32)
    array([ 0.,  1., -0.], dtype=float32)
  """
  if not len(x):
    return writer
  entries, trial = _recurring(x), writer.copy()
  apart = present is None and not x.all()
  writer.uniform(_KINDS.index("apart" if apart else "planes"), len(_KINDS))
  values, places = x, present
  if apart:
    places = x != 0
    masks.write(writer, places.reshape(shape))
    values = x[places]
  integers.write_planes(writer, _turned(values), shape, places)
  if entries is None:
    return writer
  trial.uniform(_KINDS.index("dictionary"), len(_KINDS))
  trial = _write_dictionary(trial, x, entries, shape, present)
  return trial if trial.words() < writer.words() else writer


def read(reader: Reader, width: int, shape: tuple[int, int, int],
         present: np.ndarray | None = None) -> np.ndarray:
  """Reads what `write` wrote, of `width` bytes an element; arguments as there.

  Raises:
    CodingError: not what `write` writes.
  """
  dtype = np.dtype(f"<u{width}")
  if not (math.prod(shape) if present is None else np.count_nonzero(present)):
    return np.zeros(0, dtype)
  kind = _KINDS[reader.uniform(len(_KINDS))]
  if kind == "dictionary":
    return _read_dictionary(reader, dtype, shape, present)
  if kind == "planes":
    return _turned_back(integers.read_planes(reader, width, shape, present))
  if present is not None:
    raise CodingError("zeros told apart from elements of which some are absent")
  present = masks.read(reader, shape).ravel()
  out = np.zeros(present.size, dtype)
  out[present] = _turned_back(integers.read_planes(reader, width, shape, present))
  return out


def _turned(x: np.ndarray) -> np.ndarray:
  """Moves the sign to the lowest bit, so that a byte begins with the exponent."""
  one, last = x.dtype.type(1), x.dtype.type(8 * x.dtype.itemsize - 1)
  return (x << one) | (x >> last)


def _turned_back(x: np.ndarray) -> np.ndarray:
  one, last = x.dtype.type(1), x.dtype.type(8 * x.dtype.itemsize - 1)
  return (x >> one) | (x << last)


def _recurring(x: np.ndarray) -> np.ndarray | None:
  """Returns the values, falling from the largest to the most negative, if they are few."""
  if len(np.unique(x[:_SAMPLE])) > min(_ENTRIES, len(x) // _RECURRING):
    return None
  values = np.unique(x)
  if len(values) > min(_ENTRIES, len(x) // _RECURRING):
    return None
  return values[np.argsort(_rank(values), kind="stable")]


def _rank(bits: np.ndarray) -> np.ndarray:
  """Returns unsigned integers in the order of the floats of those bits."""
  sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
  return np.where(bits & sign, ~bits, bits | sign)


def _write_dictionary(writer, x, entries, shape, present) -> Writer:
  writer.number(len(entries))
  integers.write_planes(writer, _turned(entries), (1, 1, len(entries)), None)
  by_bits = np.argsort(entries, kind="stable")
  index = by_bits[np.searchsorted(entries[by_bits], x)].astype(np.int32)
  zero = np.flatnonzero(entries == 0)
  return integers.write(writer, index - np.int32(zero[0] if len(zero) else 0), shape, present)


def _read_dictionary(reader, dtype, shape, present) -> np.ndarray:
  count = reader.number(_ENTRIES)
  entries = _turned_back(integers.read_planes(reader, dtype.itemsize, (1, 1, count), None))
  zero = np.flatnonzero(entries == 0)
  index = integers.read(reader, shape, present) + (zero[0] if len(zero) else 0)
  if not 0 <= index.min() <= index.max() < count:
    raise CodingError(f"entry {index.max()} of a dictionary of {count}")
  return entries[index]

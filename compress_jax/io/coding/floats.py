"""Floats, to the last bit: exponents by a model, or a dictionary where values recur."""

from __future__ import annotations

import numpy as np

from compress_jax.io.coding import integers, masks, symbols
from compress_jax.io.coding.stream import CodingError, Reader, Writer

_KINDS = ("planes", "apart", "dictionary")  # files hold places in these; format
_RECURRING = 8  # times that a value occurs on average, for a dictionary
_ENTRIES = 4096  # of a dictionary; format
_SAMPLE = 1 << 16  # elements looked at before all of them are sorted


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
  trial = writer.copy()
  _write_planes(writer, x, shape, present)
  entries = _recurring(x)
  if entries is None:
    return writer
  trial.uniform(_KINDS.index("dictionary"), len(_KINDS))
  trial = _write_dictionary(trial, x, entries, shape, present)
  return trial if trial.words() < writer.words() else writer


def _write_planes(writer: Writer, x: np.ndarray, shape: tuple[int, int, int],
                  present: np.ndarray | None) -> None:
  """Writes floats byte by byte, zeros told apart first where there are any."""
  if present is None and not x.all():
    writer.uniform(_KINDS.index("apart"), len(_KINDS))
    nonzero = x != 0
    masks.write(writer, nonzero.reshape(shape))
    x, present = x[nonzero], nonzero
  else:
    writer.uniform(_KINDS.index("planes"), len(_KINDS))
  integers.write_planes(writer, _turned(x), shape, present)


def read(reader: Reader, width: int, shape: tuple[int, int, int],
         present: np.ndarray | None = None) -> np.ndarray:
  """Reads what `write` wrote.

  Args:
    reader: the stream.
    width: bytes per element.
    shape: as given to `write`.
    present: as given to `write`.

  Returns:
    The bits as unsigned integers, one-dimensional: the elements that are present.

  Raises:
    CodingError: not what `write` writes.
  """
  dtype = np.dtype(f"<u{width}")
  if symbols.count_present(shape, present) == 0:
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
  """Reverses `_turned`."""
  one, last = x.dtype.type(1), x.dtype.type(8 * x.dtype.itemsize - 1)
  return (x >> one) | (x << last)


def _recurring(x: np.ndarray) -> np.ndarray | None:
  """Returns the values that occur, as bits in the order of their floats; None if many do."""
  most = min(_ENTRIES, len(x) // _RECURRING)
  # Of weights that do not recur a sample shows it, without sorting them all.
  if len(np.unique(x[:_SAMPLE])) > most:
    return None
  values = np.unique(x)
  if len(values) > most:
    return None
  # In order, neighbors in the dictionary are alike: their indices are smooth, too.
  return values[np.argsort(_rank(values), kind="stable")]


def _rank(bits: np.ndarray) -> np.ndarray:
  """Returns unsigned integers in the order of the floats of those bits."""
  sign = bits.dtype.type(1 << (8 * bits.dtype.itemsize - 1))
  # Negative floats rise as their bits fall.
  return np.where(bits & sign, ~bits, bits | sign)


def _write_dictionary(writer: Writer, x: np.ndarray, entries: np.ndarray,
                      shape: tuple[int, int, int], present: np.ndarray | None) -> Writer:
  """Writes the values that occur, then which of them each element is."""
  writer.number(len(entries))
  integers.write_planes(writer, _turned(entries), (1, 1, len(entries)), None)
  by_bits = np.argsort(entries, kind="stable")
  index = by_bits[np.searchsorted(entries[by_bits], x)].astype(np.int32)
  return integers.write(writer, index - _zero_at(entries), shape, present)


def _zero_at(entries: np.ndarray) -> np.int32:
  """Returns zero's place in a dictionary, 0 without one.

  Indices count from there, so that zeros stay zeros, which `integers` tells apart.
  """
  places = np.flatnonzero(entries == 0)
  return np.int32(places[0]) if len(places) else np.int32(0)


def _read_dictionary(reader: Reader, dtype: np.dtype, shape: tuple[int, int, int],
                     present: np.ndarray | None) -> np.ndarray:
  count = reader.number(_ENTRIES)
  entries = _turned_back(integers.read_planes(reader, dtype.itemsize, (1, 1, count), None))
  index = integers.read(reader, shape, present) + _zero_at(entries)
  if not 0 <= index.min() <= index.max() < count:
    raise CodingError(f"entry {index.max()} of a dictionary of {count}")
  return entries[index]

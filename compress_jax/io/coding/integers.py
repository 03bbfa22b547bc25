"""Integers: zeros apart from values, together, or as rising runs; floats' bits as bytes."""

from __future__ import annotations

import math

import numpy as np

from compress_jax.io.coding import masks, symbols
from compress_jax.io.coding.stream import LARGEST_SIZE, CodingError, Reader, Writer

_KINDS = ("together", "apart", "runs", "planes")  # files hold places in these; format
_MANY = 0.8  # zeros; with so many, telling them apart first always pays


def write(writer: Writer, x: np.ndarray, shape: tuple[int, int, int],
          present: np.ndarray | None = None) -> Writer:
  """Writes integers the cheapest way.

  Args:
    writer: the stream; not to be used further.
    x: integers or unsigned integers, one-dimensional: the elements that are present.
    shape: of the array, as `contexts.view` gives it.
    present: bool, of every element of the array; None for all.

  Returns:
    The stream to go on with.

  Example:
    >>> writer = write(Writer(), np.array([0, 5, 0, -300]), (1, 2, 2))
    >>> read(Reader(writer.getvalue()), (1, 2, 2)).tolist()
    [0, 5, 0, -300]
  """
  if not len(x):
    return writer

  def tried(kind: str) -> Writer:
    trial = writer.copy()
    trial.uniform(_KINDS.index(kind), len(_KINDS))
    _WRITERS[kind](trial, x, shape, present)
    return trial

  # One by one, so that no more than two are in memory; of equally short ones the first.
  return min(map(tried, _worth_trying(x, present)), key=Writer.words)


def _worth_trying(x: np.ndarray, present: np.ndarray | None) -> list[str]:
  """Returns the kinds of coding that may be the cheapest."""
  zeros = 1 - np.count_nonzero(x) / len(x)
  low, high = int(x.min()), int(x.max())
  # More symbols than a table may have are written byte by byte.
  if high - low >= LARGEST_SIZE or max(-low, high) >= symbols.LARGEST:
    return ["planes"]
  kinds = ["together"]
  if _runs_fit(x, present):
    kinds.append("runs")
  # Of a masked array the mask tells the zeros already.
  if present is not None or not zeros:
    return kinds
  return ["apart"] if zeros >= _MANY else ["apart", *kinds]


def read(reader: Reader, shape: tuple[int, int, int],
         present: np.ndarray | None = None) -> np.ndarray:
  """Reads what `write` wrote.

  Args:
    reader: the stream.
    shape: as given to `write`.
    present: as given to `write`.

  Returns:
    int32 or wider, one-dimensional: the elements that are present.

  Raises:
    CodingError: not what `write` writes.
  """
  if symbols.count_present(shape, present) == 0:
    return np.zeros(0, np.int32)
  kind = _KINDS[reader.uniform(len(_KINDS))]
  return _READERS[kind](reader, shape, present)


# Every pair below writes or reads one kind; arguments are those of `write` and `read`.


def _write_apart(writer, x, shape, present) -> None:
  mask = x != 0
  masks.write(writer, mask.reshape(shape))
  kept = x[mask].astype(np.int32)
  symbols.write_placed(writer, kept - (kept > 0), shape, mask)  # closes the gap at zero


def _read_apart(reader, shape, present) -> np.ndarray:
  if present is not None:
    raise CodingError("zeros told apart from elements of which some are absent")
  mask = masks.read(reader, shape).ravel()
  kept = symbols.read_placed(reader, shape, mask)
  out = np.zeros(mask.size, kept.dtype)
  out[mask] = kept + (kept >= 0)  # opens it again
  return out


def _runs_fit(x: np.ndarray, present: np.ndarray | None) -> bool:
  """Returns whether x rises in runs: the rows of stored blocks, column by column."""
  if present is not None or len(x) < 8 or x.min() < 0:
    return False
  runs = np.count_nonzero(x[1:] <= x[:-1]) + 1
  # A run is written as a mask, which must not take much more memory than the array.
  return bool(runs * (int(x.max()) + 1) <= min(64 * len(x), 2**24))


def _write_runs(writer, x, shape, present) -> None:
  run = np.concatenate([[0], np.cumsum(x[1:] <= x[:-1])])
  bitmap = np.zeros((1, int(run[-1]) + 1, int(x.max()) + 1), bool)
  bitmap[0, run, x] = True
  writer.number(bitmap.shape[1])
  writer.number(bitmap.shape[2])
  masks.write(writer, bitmap)


def _read_runs(reader, shape, present) -> np.ndarray:
  count = math.prod(shape)
  runs, width = reader.number(2**24), reader.number(2**24)
  if runs * width > min(64 * count, 2**24):
    raise CodingError(f"{runs} runs of {width} for {count} elements; must be at most 64 times "
                      "as many")
  out = np.nonzero(masks.read(reader, (1, runs, width))[0])[1].astype(np.int32)
  if len(out) != count:
    raise CodingError(f"runs of {len(out)} elements; must be {count}")
  return out


def _write_together(writer, x, shape, present) -> None:
  symbols.write_placed(writer, x, shape, present)


def _read_together(reader, shape, present) -> np.ndarray:
  return symbols.read_placed(reader, shape, present)


def _write_planes(writer, x, shape, present) -> None:
  write_planes(writer, x.astype("<i8").view("<u8"), shape, present)


def _read_planes(reader, shape, present) -> np.ndarray:
  return read_planes(reader, 8, shape, present).view(np.int64)


_WRITERS = {"together": _write_together, "apart": _write_apart, "runs": _write_runs,
            "planes": _write_planes}
_READERS = {"together": _read_together, "apart": _read_apart, "runs": _read_runs,
            "planes": _read_planes}


def write_planes(writer: Writer, x: np.ndarray, shape: tuple[int, int, int],
                 present: np.ndarray | None) -> None:
  """Writes unsigned integers byte by byte, the highest first.

  Args:
    writer: the stream.
    x: unsigned integers, one-dimensional: the elements that are present.
    shape: of the array, as `contexts.view` gives it.
    present: bool, of every element of the array; None for all.
  """
  highest = x.dtype.itemsize - 1
  for i in range(highest, -1, -1):
    plane = (x >> x.dtype.type(8 * i)).astype(np.uint8)
    # Only the highest byte varies by channel: it holds a float's exponent.
    if i == highest:
      symbols.write_placed(writer, plane, shape, present)
    else:
      symbols.write(writer, plane)


def read_planes(reader: Reader, width: int, shape: tuple[int, int, int],
                present: np.ndarray | None) -> np.ndarray:
  """Reads what `write_planes` wrote.

  Args:
    reader: the stream.
    width: bytes per element.
    shape: as given to `write_planes`.
    present: as given to `write_planes`.

  Returns:
    Unsigned integers of that width, one-dimensional: the elements that are present.

  Raises:
    CodingError: not what `write_planes` writes.
  """
  dtype = np.dtype(f"<u{width}")
  out = symbols.read_placed(reader, shape, present).astype(dtype)
  for _ in range(width - 1):
    plane = symbols.read(reader, len(out)).astype(dtype)
    out = (out << dtype.type(8)) | plane
  return out

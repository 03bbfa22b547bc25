"""One array as bytes, and back: pieces of bounded size, the better of two coders."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator
from typing import overload

import jax.numpy as jnp
import numpy as np

from compress_jax.io.coding import contexts, floats, integers, masks
from compress_jax.io.coding.stream import CodingError, Reader, Writer

PIECE = 1 << 22  # elements that are coded together, with tables of their own; format
_MODELLED, _DEFLATED = b"m", b"d"  # the first byte of an array: which coder wrote it; format
_SAMPLE = 1 << 18  # bytes deflated before all of them are


def encode(x: np.ndarray, present: np.ndarray | None = None,
           base: np.ndarray | None = None) -> bytes:
  """Codes an array.

  Args:
    x: bool, integers or floats of any shape and width.
    present: bool like x: only elements where it is true are stored; None for all.
    base: integers like x, what its elements are counted from; None for zero.

  Returns:
    The bytes; neither shape nor dtype is among them.

  Example:
    >>> x = np.arange(1000) // 100 - 5
    >>> data = encode(x)
    >>> len(data), bool((decode(data, x.shape, "int64") == x).all())
    (66, True)
  """
  if not x.size:
    return b""
  writer = Writer()
  for piece in _pieces(x.shape):
    writer = _write(writer, piece.of(x), piece.shape, piece.of(present), piece.of(base))
  modelled = _MODELLED + writer.getvalue()
  deflated = _deflated(x, present, len(modelled))
  if deflated is not None and len(deflated) < len(modelled):
    return deflated
  return modelled


def decode(data: bytes, shape: tuple[int, ...], dtype: str, present: np.ndarray | None = None,
           base: np.ndarray | None = None) -> np.ndarray:
  """Reverses `encode`.

  Args:
    data: what `encode` returned.
    shape: of the array; memory for it is taken, so check it beforehand.
    dtype: name of the array's dtype.
    present: as given to `encode`.
    base: as given to `encode`.

  Returns:
    The array, zeros where it was not present.

  Raises:
    CodingError: the bytes are none of such an array.
  """
  out = np.zeros(math.prod(shape), jnp.dtype(dtype))
  try:
    if data[:1] == _DEFLATED:
      _inflate(data, out, present)
    elif data[:1] == _MODELLED or not out.size:
      _decode_pieces(data[1:], out, shape, present, base)
    else:
      raise CodingError(f"method {data[:1]!r}; must be {_MODELLED!r} or {_DEFLATED!r}")
  except CodingError:
    raise
  except (ArithmeticError, IndexError, ValueError) as error:  # what numpy makes of bad numbers
    raise CodingError(str(error)) from None
  return out.reshape(shape)


def _decode_pieces(data: bytes, out: np.ndarray, shape: tuple[int, ...],
                   present: np.ndarray | None, base: np.ndarray | None) -> None:
  reader = Reader(data)
  for piece in _pieces(shape):
    kept = piece.of(present)
    part = _read(reader, out.dtype, piece.shape, kept, piece.of(base))
    _put(piece.of(out), kept, part)


def _put(out: np.ndarray, present: np.ndarray | None, values: np.ndarray) -> None:
  """Sets the elements that are present; the others stay zero."""
  if present is None:
    out[:] = values
  else:
    out[present] = values


@dataclasses.dataclass(frozen=True)
class _Piece:
  """Elements of an array from `start`, and their `contexts.view`."""

  start: int
  shape: tuple[int, int, int]

  @overload
  def of(self, x: np.ndarray) -> np.ndarray: ...
  @overload
  def of(self, x: None) -> None: ...
  def of(self, x: np.ndarray | None) -> np.ndarray | None:
    """Returns the piece's elements of an array, a view; None of None."""
    if x is None:
      return None
    return x.reshape(-1)[self.start:self.start + math.prod(self.shape)]


def _pieces(shape: tuple[int, ...]) -> Iterator[_Piece]:
  """Cuts an array along its first axis, or where even one index holds too much, finer."""
  window, inputs, outputs = contexts.view(shape)
  if not window * inputs * outputs:
    return
  # A tap that does not fit a piece is cut between rows, a row that does not anywhere.
  if inputs * outputs > PIECE and outputs <= PIECE:
    window, inputs = 1, window * inputs
  elif outputs > PIECE:
    window, inputs, outputs = 1, 1, window * inputs * outputs
  sizes = [window, inputs, outputs]
  axis = _cut_axis(sizes)
  inner = math.prod(sizes[axis + 1:])
  step = max(1, PIECE // inner)
  for first in range(0, sizes[axis], step):
    part = list(sizes)
    part[axis] = min(step, sizes[axis] - first)
    window, inputs, outputs = part
    yield _Piece(first * inner, (window, inputs, outputs))


def _cut_axis(sizes: list[int]) -> int:
  """Returns the first axis whose single indices fit a piece."""
  for axis, size in enumerate(sizes):
    if size > 1 and math.prod(sizes[axis + 1:]) <= PIECE:
      return axis
  return len(sizes) - 1


def _bits(x: np.ndarray) -> np.ndarray:
  """Returns the bits of floats as unsigned integers."""
  return x.view(np.dtype(f"<u{x.dtype.itemsize}"))


def _write(writer: Writer, x: np.ndarray, shape: tuple[int, int, int],
           present: np.ndarray | None, base: np.ndarray | None) -> Writer:
  """Writes a piece; returns the stream to go on with."""
  if x.dtype.kind == "b" and present is None:
    masks.write(writer, x.reshape(shape))
    return writer
  if present is not None:
    x = x[present]
  if _is_float(x.dtype):
    return floats.write(writer, np.ascontiguousarray(_bits(x)), shape, present)
  return integers.write(writer, _minus(x, base, present), shape, present)


def _read(reader: Reader, dtype: np.dtype, shape: tuple[int, int, int],
          present: np.ndarray | None, base: np.ndarray | None) -> np.ndarray:
  """Reads a piece: its elements that are present."""
  if dtype.kind == "b" and present is None:
    return masks.read(reader, shape).ravel()
  if _is_float(dtype):
    return floats.read(reader, dtype.itemsize, shape, present).view(dtype)
  x = integers.read(reader, shape, present)
  if base is not None:
    x = x + _present(base, present)
  return x.astype(dtype)


def _present(x: np.ndarray, present: np.ndarray | None) -> np.ndarray:
  return x if present is None else x[present]


def _minus(x: np.ndarray, base: np.ndarray | None, present: np.ndarray | None) -> np.ndarray:
  """Returns integers less what they are counted from, in a dtype that numpy computes with."""
  if x.dtype == np.uint64:  # beyond int64; wraps back when decoded
    x = x.view(np.int64)
  x = x.astype(np.int32 if x.dtype.itemsize < 4 else np.int64)
  if base is None:
    return x
  return x - _present(base, present).astype(x.dtype)


def _is_float(dtype: np.dtype) -> bool:
  # Not asked of numpy, which knows neither bfloat16 nor float8.
  return not (dtype.kind == "b" or jnp.issubdtype(dtype, jnp.integer))


def _raw(x: np.ndarray, present: np.ndarray | None) -> bytes:
  """Returns the first bytes of all elements, then the second ones, and so on.

  Bytes at one place resemble each other (exponents, say), so they compress better together.
  """
  x = _present(x, present)
  return np.frombuffer(x.tobytes(), np.uint8).reshape(-1, x.dtype.itemsize).T.tobytes()


def _deflated(x: np.ndarray, present: np.ndarray | None, beat: int) -> bytes | None:
  """Returns x by deflate, which knows repetitions; None if a sample cannot beat so many bytes."""
  raw = _raw(x, present)
  if len(raw) > _SAMPLE:
    # A fifth of slack, since the sample need not be typical.
    ratio = len(_shrunk(raw[:_SAMPLE])) / _SAMPLE
    if ratio > 1.2 * beat / len(raw):
      return None
  return _DEFLATED + _shrunk(raw)


def _shrunk(data: bytes) -> bytes:
  # Without zlib's frame: a file has a checksum of its own.
  return zlib.compress(data, 9, wbits=-15)


def _inflate(data: bytes, out: np.ndarray, present: np.ndarray | None) -> None:
  count = out.size if present is None else int(np.count_nonzero(present))
  size = count * out.dtype.itemsize
  try:
    # One byte more than there may be: a bomb shows itself, and is not inflated.
    raw = zlib.decompressobj(wbits=-15).decompress(data[1:], size + 1)
  except zlib.error as error:
    raise CodingError(f"cannot be inflated ({error})") from None
  if len(raw) != size:
    raise CodingError(f"inflates to {len(raw)} bytes; must be {size}")
  planes = np.frombuffer(raw, np.uint8).reshape(out.dtype.itemsize, count)
  flat = np.frombuffer(planes.T.tobytes(), out.dtype)
  _put(out, None if present is None else present.reshape(-1), flat)

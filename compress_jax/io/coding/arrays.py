"""One array as bytes, and back: pieces of bounded size, the better of two coders."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

from compress_jax.io.coding import contexts, floats, integers, masks
from compress_jax.io.coding.stream import CodingError, Reader, Writer

PIECE = 1 << 22  # elements that are coded together, with tables of their own; format
_MODELLED, _DEFLATED = b"m", b"d"
_SAMPLE = 1 << 18


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
  for at in _pieces(x.shape):
    part = x.reshape(-1)[at.start:at.stop]
    kept = None if present is None else present.reshape(-1)[at.start:at.stop]
    below = None if base is None else base.reshape(-1)[at.start:at.stop]
    writer = _write(writer, part, at.shape, kept, below)
  coded = _MODELLED + writer.getvalue()
  return min([coded, *_deflated(x, present, len(coded))], key=len)


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
      raise CodingError(f"method {data[:1]!r}; may be {_MODELLED!r} or {_DEFLATED!r}")
  except (ArithmeticError, IndexError, ValueError) as error:  # what numpy makes of bad numbers
    raise error if isinstance(error, CodingError) else CodingError(str(error)) from None
  return out.reshape(shape)


def _decode_pieces(data: bytes, out: np.ndarray, shape: tuple[int, ...],
                   present: np.ndarray | None, base: np.ndarray | None) -> None:
  reader = Reader(data)
  for at in _pieces(shape):
    kept = None if present is None else present.reshape(-1)[at.start:at.stop]
    below = None if base is None else base.reshape(-1)[at.start:at.stop]
    part = _read(reader, out.dtype, at.shape, kept, below)
    out[at.start:at.stop][slice(None) if kept is None else kept] = part


@dataclasses.dataclass(frozen=True)
class _Piece:
  """Elements of an array from `start`, and their `contexts.view`."""

  start: int
  shape: tuple[int, int, int]

  @property
  def stop(self) -> int:
    return self.start + math.prod(self.shape)


def _pieces(shape: tuple[int, ...]) -> Iterator[_Piece]:
  """Cuts an array along its first axis, or where even one index holds too much, finer."""
  window, inputs, outputs = contexts.view(shape)
  if not window * inputs * outputs:
    return
  if inputs * outputs > PIECE and outputs <= PIECE:
    window, inputs = 1, window * inputs
  elif outputs > PIECE:
    window, inputs, outputs = 1, 1, window * inputs * outputs
  sizes = [window, inputs, outputs]
  axis = next((i for i in range(3) if math.prod(sizes[i + 1:]) <= PIECE and sizes[i] > 1), 2)
  inner = math.prod(sizes[axis + 1:])
  for first in range(0, sizes[axis], step := max(1, PIECE // inner)):
    count = min(step, sizes[axis] - first)
    yield _Piece(first * inner, tuple(count if i == axis else n for i, n in enumerate(sizes)))


def _bits(x: np.ndarray) -> np.ndarray:
  """Returns the bits of floats as unsigned integers."""
  return x.view(np.dtype(f"<u{x.dtype.itemsize}"))


def _write(writer: Writer, x: np.ndarray, shape, present, base) -> Writer:
  if x.dtype.kind == "b" and present is None:
    masks.write(writer, x.reshape(shape))
    return writer
  x = x if present is None else x[present]
  if _is_float(x.dtype):
    return floats.write(writer, np.ascontiguousarray(_bits(x)), shape, present)
  return integers.write(writer, _minus(x, base, present), shape, present)


def _read(reader: Reader, dtype: np.dtype, shape, present, base) -> np.ndarray:
  if dtype.kind == "b" and present is None:
    return masks.read(reader, shape).ravel()
  if _is_float(dtype):
    return floats.read(reader, dtype.itemsize, shape, present).view(dtype)
  x = integers.read(reader, shape, present)
  if base is not None:
    x = x + (base if present is None else base[present])
  return x.astype(dtype)


def _minus(x: np.ndarray, base: np.ndarray | None, present: np.ndarray | None) -> np.ndarray:
  """Returns integers less what they are counted from, in a dtype that numpy computes with."""
  if x.dtype == np.uint64:  # beyond int64; wraps back when decoded
    x = x.view(np.int64)
  x = x.astype(np.int32 if x.dtype.itemsize < 4 else np.int64)
  if base is None:
    return x
  return x - (base if present is None else base[present]).astype(x.dtype)


def _is_float(dtype: np.dtype) -> bool:
  return not (dtype.kind == "b" or jnp.issubdtype(dtype, jnp.integer))


def _raw(x: np.ndarray, present: np.ndarray | None) -> bytes:
  """Returns the first bytes of all elements, then the second ones: likes compress better."""
  x = x.reshape(-1) if present is None else x[present]
  return np.frombuffer(x.tobytes(), np.uint8).reshape(-1, x.dtype.itemsize).T.tobytes()


def _deflated(x: np.ndarray, present: np.ndarray | None, beat: int) -> list[bytes]:
  """Returns x by deflate, which knows repetitions, unless a sample of it says no."""
  raw = _raw(x, present)
  shrink = lambda data: zlib.compress(data, 9, wbits=-15)
  sample = raw[:_SAMPLE]
  if len(raw) > _SAMPLE and len(shrink(sample)) / len(sample) > 1.2 * beat / len(raw):
    return []
  return [_DEFLATED + shrink(raw)]


def _inflate(data: bytes, out: np.ndarray, present: np.ndarray | None) -> None:
  count = out.size if present is None else int(np.count_nonzero(present))
  size = count * out.dtype.itemsize
  try:
    raw = zlib.decompressobj(wbits=-15).decompress(data[1:], size + 1)
  except zlib.error as error:
    raise CodingError(f"cannot be inflated ({error})") from None
  if len(raw) != size:
    raise CodingError(f"inflates to {len(raw)} bytes; must be {size}")
  planes = np.frombuffer(raw, np.uint8).reshape(out.dtype.itemsize, count)
  flat = np.frombuffer(planes.T.tobytes(), out.dtype)
  out[slice(None) if present is None else present.reshape(-1)] = flat

"""Arrays as bytes, each element in as many bits as it needs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np


def pack(x: np.ndarray, bits: int) -> bytes:
  """Packs a vector.

  Args:
    x: one-dimensional: bool (1 bit), integers that fit in `bits` (signed or
      not, as their dtype), or any dtype at its full width.
    bits: bits an element.

  Returns:
    ceil(len(x) * bits / 8) bytes. At full width the first byte of every element
    comes first, then every second one: like bytes compress better together.

  Example:
    >>> import numpy as np
    >>> pack(np.array([1, -1, 0, 1], np.int8), 2).hex()
    '71'
  """
  width = np.dtype(x.dtype).itemsize
  if bits == 8 * width:
    return np.frombuffer(x.tobytes(), np.uint8).reshape(-1, width).T.tobytes()
  codes = x.astype(np.int64) & ((1 << bits) - 1)
  planes = (codes[:, None] >> np.arange(bits - 1, -1, -1)) & 1
  return np.packbits(planes.astype(np.uint8)).tobytes()


def unpack(data: bytes, count: int, bits: int, dtype: str) -> np.ndarray:
  """Reverses `pack`.

  Args:
    data: what `pack` returned.
    count: elements.
    bits: bits an element.
    dtype: name of the elements' dtype.

  Returns:
    A vector of `count` elements.

  Raises:
    ValueError: data is not as long as it must be.

  Example:
    >>> unpack(bytes([0x71]), 4, 2, "int8").tolist()
    [1, -1, 0, 1]
  """
  target = jnp.dtype(dtype)
  if len(data) != packed_size(count, bits):
    raise ValueError(f"packed data has {len(data)} bytes; it must have {packed_size(count, bits)}")
  if bits == 8 * target.itemsize:
    planes = np.frombuffer(data, np.uint8).reshape(target.itemsize, count)
    return np.frombuffer(planes.T.tobytes(), target).copy()
  planes = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits).reshape(count, bits)
  codes = (planes.astype(np.int64) << np.arange(bits - 1, -1, -1)).sum(1)
  if target.kind in "bu" or jnp.issubdtype(target, jnp.unsignedinteger):
    return codes.astype(target)
  return np.where(codes >> (bits - 1), codes - (1 << bits), codes).astype(target)


def packed_size(count: int, bits: int) -> int:
  """Returns the bytes that `pack` makes of `count` elements."""
  return -(-count * bits // 8)

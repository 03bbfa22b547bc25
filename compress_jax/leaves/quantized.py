"""`Quantized`: integers on an affine grid, as deployed."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf, Payload
from compress_jax.leaves.grid import Activation


@base.node
class Quantized(Leaf):
  """Stands for `scale * (integers - zero_point)`.

  Attributes:
    integers: int8 (up to 8 bits) or int16 array of any shape.
    scale: float array that broadcasts to `integers`.
    zero_point: integers that broadcast to `integers`, or None for zero.
    input: the grid on which `lift` quantizes what the weight is applied to;
      None leaves it in floating point.
    bits: bits an integer needs.
    of: name of the dtype of the array it stands for.

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = Quantized(jnp.array([-3, 2], jnp.int8), jnp.float32(0.5), None, None, bits=4)
    >>> leaf.dense().tolist()
    [-1.5, 1.0]
  """

  integers: Array
  scale: Array
  zero_point: Array | None
  input: Activation | None
  bits: int = base.static(default=8)
  of: str = base.static(default="float32")

  @property
  def shape(self):
    return self.integers.shape

  @property
  def dtype(self):
    return jnp.dtype(self.of)

  def steps(self) -> Array:
    """Returns `integers - zero_point` as integer-valued float32."""
    values = self.integers.astype(jnp.float32)
    return values if self.zero_point is None else values - self.zero_point

  def dense(self) -> Array:
    return (self.steps() * self.scale).astype(self.dtype)

  def freeze(self) -> Quantized:
    return self

  def masked(self, mask: Array) -> Quantized:
    zero = 0 if self.zero_point is None else self.zero_point.astype(self.integers.dtype)
    return dataclasses.replace(self, integers=jnp.where(mask, self.integers, zero))

  def payload(self) -> dict[str, Payload]:
    zero = 0 if self.zero_point is None else self.zero_point
    return super().payload() | {"integers": Payload(self.integers, self.bits, zero=zero)}

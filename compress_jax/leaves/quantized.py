"""`Quantized`: integers on an affine grid, as deployed."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base, grid
from compress_jax.leaves.activation import Activation, Dynamic
from compress_jax.leaves.base import Array, Leaf, Payload


@base.node
class Quantized(Leaf):
  """Stands for `scale * (integers - zero_point)`.

  Attributes:
    integers: int8 (up to 8 bits) or int16 array of any shape.
    scale: float array like `integers` with 1 for every axis that shares it; an
      axis may also have one for every group (`grid.spread`).
    zero_point: integers like `scale`, or None for zero.
    input: how `lift` quantizes what the weight is applied to; None leaves it in
      floating point.
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
  input: Activation | Dynamic | None
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
    return values if self.zero_point is None else values - self._zero()

  def _zero(self) -> Array:
    return grid.spread(self.zero_point, self.shape)

  @property
  def wide(self) -> bool:
    """Whether its integers take more than 8 bits."""
    return self.bits > 8

  def step_size(self) -> Array:
    """Returns `scale`, what one of `steps` stands for."""
    return self.scale

  def dense(self) -> Array:
    return (self.steps() * grid.spread(self.scale, self.shape)).astype(self.dtype)

  def freeze(self) -> Quantized:
    return self

  def masked(self, mask: Array) -> Quantized:
    zero = 0 if self.zero_point is None else self._zero().astype(self.integers.dtype)
    return dataclasses.replace(self, integers=jnp.where(mask, self.integers, zero))

  def payload(self) -> dict[str, Payload]:
    zero = 0 if self.zero_point is None else self._zero()
    return super().payload() | {"integers": Payload(self.integers, self.bits, zero=zero)}

"""`FakeQuant`: a float value that acts as if it were on an integer grid."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax.leaves import base, grid
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.masked import apply_mask
from compress_jax.leaves.quantized import Quantized


@jax.custom_vjp
def scale_gradient(x: Array, factor: Array) -> Array:
  """Returns x; its gradient is multiplied by `factor`."""
  return x


scale_gradient.defvjp(lambda x, factor: (x, factor),
                      lambda factor, g: (g * factor, jnp.zeros_like(factor)))


@base.node
class FakeQuant(Leaf):
  """Stands for `value` rounded to the grid, with the straight-through gradient.

  Attributes:
    value: float array or leaf of any shape; trains.
    scale: float32 array that broadcasts to `value`: the grid's step.
    zero_point: int32 array like `scale`, or None for a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.
    input: the grid on which `lift` quantizes what the weight is applied to;
      None leaves it in floating point.
    learned: whether `scale` trains too (LSQ).

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = FakeQuant(jnp.array([0.26]), jnp.float32(0.1), None, jnp.int32(8), None)
    >>> float(leaf.dense()[0] / 0.1) == 3.0
    True
  """

  value: Array | Leaf
  scale: Array
  zero_point: Array | None
  bits: Array
  input: grid.Activation | None = None
  learned: bool = base.static(default=False)

  @property
  def trains(self):
    return ("value", "scale") if self.learned else ("value",)

  @property
  def shape(self):
    return self.value.shape

  @property
  def dtype(self):
    return self.value.dtype

  def steps(self) -> Array:
    """Returns `q - zero_point` as integer-valued float32; see `grid.steps`."""
    return self._steps(self.scale)

  def _steps(self, scale: Array) -> Array:
    return grid.steps(base.dense_of(self.value), scale, self.zero_point, self.bits)

  def dense(self) -> Array:
    if self.bits.ndim:
      raise ValueError(f"bits has shape {self.bits.shape}: a stacked leaf; use jax.vmap")
    scale = self.scale
    if self.learned:
      served = self.size / scale.size * grid.limits(self.bits, True)[1]
      scale = scale_gradient(scale, jax.lax.rsqrt(served))
    return (self._steps(scale) * scale).astype(self.dtype)

  def freeze(self) -> Quantized:
    if isinstance(self.bits, jax.core.Tracer):
      raise ValueError("freeze: bits is traced, but it decides how integers are stored; "
                       "freeze outside jit and vmap")
    if self.bits.ndim:
      raise ValueError(f"freeze: bits has shape {self.bits.shape}: freeze each leaf of the stack")
    bits = int(self.bits)
    dtype = jnp.int8 if bits <= 8 else jnp.int16
    return Quantized(grid.codes(self.steps(), self.zero_point, dtype), self.scale,
                     self.zero_point, self.input, bits=bits, of=jnp.dtype(self.dtype).name)

  def masked(self, mask: Array) -> FakeQuant:
    return dataclasses.replace(self, value=apply_mask(self.value, mask))

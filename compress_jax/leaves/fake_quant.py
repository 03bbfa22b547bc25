"""`FakeQuant`: a float value that acts as if it were on an integer grid."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax.leaves import base, grid
from compress_jax.leaves.activation import Activation, Dynamic
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.block_sparse import BlockSparse
from compress_jax.leaves.masked import Masked, apply_mask
from compress_jax.leaves.quantized import Quantized


@base.node
class FakeQuant(Leaf):
  """Stands for `value` rounded to the grid, with the straight-through gradient.

  Attributes:
    value: float array or leaf of any shape; trains.
    scale: float32 array like `value` with 1 for every axis that shares it: the
      grid's step; an axis may also have one for every group (`grid.spread`).
    zero_point: int32 array like `scale`, or None for a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.
    input: how `lift` quantizes what the weight is applied to; None leaves it in
      floating point.
    learned: whether `scale` trains too (LSQ).
    wide: whether bits may be more than 8.

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
  input: Activation | Dynamic | None = None
  learned: bool = base.static(default=False)
  wide: bool = base.static(default=False)

  @property
  def trains(self):
    input_trains = getattr(self.input, "learned", False)
    return ("value", *["scale"] * self.learned, *["input"] * input_trains)

  @property
  def shape(self):
    return self.value.shape

  @property
  def dtype(self):
    return self.value.dtype

  def steps(self) -> Array:
    """Returns `q - zero_point` as integer-valued float32; see `grid.steps`."""
    return grid.steps(base.dense_of(self.value), self.step_size(), self.zero_point, self.bits)

  def step_size(self) -> Array:
    """Returns `scale`; where it is learned, with LSQ's factor on its gradient."""
    if not self.learned:
      return self.scale
    served = self.size / self.scale.size * grid.limits(self.bits, True)[1]
    return grid.scale_gradient(self.scale, jax.lax.rsqrt(served))

  def dense(self) -> Array:
    if self.bits.ndim:
      raise ValueError(f"bits has shape {self.bits.shape}: a stacked leaf; use jax.vmap")
    return (self.steps() * grid.spread(self.step_size(), self.shape)).astype(self.dtype)

  def freeze(self) -> Quantized | BlockSparse:
    if isinstance(self.bits, jax.core.Tracer):
      raise ValueError("freeze: bits is traced, but it decides how integers are stored; "
                       "freeze outside jit and vmap")
    if self.bits.ndim:
      raise ValueError(f"freeze: bits has shape {self.bits.shape}: freeze each leaf of the stack")
    bits = int(self.bits)
    of, dtype = jnp.dtype(self.dtype).name, jnp.int8 if bits <= 8 else jnp.int16
    integers = grid.codes(self.steps(), self.zero_point, dtype)
    if self._runs_in_blocks(bits) and not isinstance(integers, jax.core.Tracer):
      return BlockSparse.from_dense(integers, self.value.block, scale=self.scale.reshape(-1),
                                    input=self.input, bits=bits, of=of)
    return Quantized(integers, self.scale, self.zero_point, self.input, bits=bits, of=of)

  def _runs_in_blocks(self, bits: int) -> bool:
    """Returns whether only blocks are stored: int8, scaled once for every output."""
    blocked = (isinstance(self.value, Masked) and self.value.block is not None
               and BlockSparse.fits(self.shape))
    per_output = self.zero_point is None and all(n == 1 for n in self.scale.shape[:-1])
    return (blocked and per_output and self.scale.ndim == self.ndim and bits <= 8
            and self.scale.shape[-1] in (1, self.shape[-1])
            and not getattr(self.input, "wide", False))

  def masked(self, mask: Array) -> FakeQuant:
    return dataclasses.replace(self, value=apply_mask(self.value, mask))

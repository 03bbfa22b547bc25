"""`FakeQuant`: a float value that acts as if it were on an integer grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from compress_jax.leaves import base, checking, either, grid
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.block_sparse import BlockSparse
from compress_jax.leaves.input_grids import Dynamic, StaticGrid, WithInputGrid
from compress_jax.leaves.quantized import Quantized
from compress_jax.leaves.stepped import Rounded


@base.node
class FakeQuant(WithInputGrid, Rounded):
  """Stands for `value` rounded to the grid, with the straight-through gradient.

  Attributes:
    value: float array or leaf of any shape; trains.
    scale: float32 array like `value` with 1 for every axis that shares it: the
      grid's step; an axis may also have one for every group of equal length.
    zero_point: int32 array like `scale`, or None for a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced. A stack of leaves that `jax.vmap` made has
      one for each of them.
    input: how `lift` quantizes what the weight is applied to; None leaves it in
      floating point.
    learned: whether `scale` trains too (LSQ).
    may_exceed_8_bits: whether bits may be more than 8, which is known when tracing.
    served: weights that one learned step serves in the whole weight, of which the program may
      see slices only; 0 is what the leaf has.

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
  input: StaticGrid | Dynamic | None = None
  learned: bool = base.static(default=False)
  may_exceed_8_bits: bool = base.static(default=False)
  served: int = base.static(default=0)

  laid_out = ("value", "scale", "zero_point")
  in_slices = (("bits", 0), ("input", 0))
  former_statics = (("wide", "may_exceed_8_bits"),)

  @property
  def trains(self):
    # What of the input's grid trains is for the grid to say.
    return ("value", "input", "scale") if self.learned else ("value", "input")

  def steps(self) -> Array:
    """Returns `q - zero_point` as integer-valued float32; see `grid.quantize_to_grid`."""
    return grid.quantize_to_grid(either.dense_of(self.value), self.step_size(), self.zero_point,
                                 self._spread_bits(), self.learned)

  def _spread_bits(self) -> Array:
    """Returns the bits as they lie over the weights: of a stack, one for each index in front."""
    if not jnp.ndim(self.bits):
      return self.bits
    if self.bits.shape != self.shape[:self.bits.ndim] or self.scale.ndim != self.ndim:
      raise ValueError(f"bits has shape {self.bits.shape}: a stacked leaf; use jax.vmap")
    return self.bits.reshape(*self.bits.shape, *(1,) * (self.ndim - self.bits.ndim))

  def step_size(self) -> Array:
    """Returns `scale`; where it is learned, positive, with LSQ's factor on its gradient."""
    if not self.learned:
      return self.scale
    served = self.served or self.size / self.scale.size
    factor = jax.lax.rsqrt(served * grid.limits(self._spread_bits(), True)[1])
    return grid.positive(grid.scale_gradient(self.scale, factor))

  def freeze(self) -> Quantized | BlockSparse:
    bits, steps = self._known_bits(), self.steps()
    known = checking.concrete(steps)
    if known is not None and np.isnan(known).any():
      # Integers have none: the weights would come back as numbers.
      raise ValueError("FakeQuant.value: holds NaN; must be numbers to be frozen")
    # The same rounding as in training, so the same bits.
    dtype = jnp.int8 if bits <= 8 else jnp.int16
    integers = grid.codes(steps, self.zero_point, dtype)
    scale, block = self.step_size(), self.block_shape()
    grid_of_input = None if self.input is None else self.input.deployed()
    if block is not None and self._fits_blocks(bits) and not isinstance(integers, Tracer):
      return BlockSparse.from_dense(integers, block, scale=scale.reshape(-1),
                                    input=grid_of_input, bits=bits, dense_dtype=self.dtype.name)
    return Quantized(integers, scale, self.zero_point, grid_of_input, bits=bits,
                     dense_dtype=self.dtype.name, pruned=either.is_pruned(self.value))

  def _known_bits(self) -> int:
    if isinstance(self.bits, Tracer):
      raise ValueError("freeze: bits is traced, but it decides how integers are stored; "
                       "freeze outside jit and vmap")
    known = np.unique(np.asarray(self.bits))
    if known.size != 1:
      raise ValueError(f"freeze: bits of {known.tolist()} in one stack; must be the same for all, "
                       "or freeze each of its leaves")
    return int(known[0])

  def _fits_blocks(self, bits: int) -> bool:
    """Returns whether blocks alone can be stored: int8, scaled once for every output."""
    if not BlockSparse.fits(self.shape) or bits > 8:
      return False
    if self.input is not None and self.input.may_exceed_8_bits:
      return False
    per_output = self.zero_point is None and self.scale.shape[:-1] == (1,) * (self.ndim - 1)
    return per_output and self.scale.ndim == self.ndim and self.scale.shape[-1] in (
        1, self.shape[-1])

  def weight_bits(self) -> int:
    return self._known_bits()

  def refitted(self) -> FakeQuant:
    """Returns the leaf on a grid that spans its present value; a learned step stays."""
    if self.learned:
      return self
    _, _, scale, zero_point = grid.spanning(either.dense_of(self.value), self.scale.shape,
                                            self._spread_bits(), self.zero_point is None)
    return self.replace(scale=scale, zero_point=zero_point)

  def taken(self, rows: Array) -> Self:
    if self.learned and not self.served:
      # LSQ's factor counts all the weights that a step serves.
      self._cannot("be looked up by rows while its step trains", "`served` must say how many "
                   "weights a step serves, as cj.quantize.learned does")
    return super().taken(rows)

  def partition_specs(self, spec: tuple[Any, ...], shards: Sequence[int]) -> Self:
    if self.learned and max(shards) > 1:
      self._cannot("be cut over devices while its step trains", "freeze it, or use cj.dense")
    return super().partition_specs(spec, shards)

  def validate(self) -> None:
    super().validate()
    checking.steps(self, self.value)
    checking.input_grid(self)
    checking.bits(self, self.bits)

"""`Quantized`: integers on an affine grid, as deployed."""

from __future__ import annotations

import jax.numpy as jnp

from compress_jax.leaves import base, checking, grid
from compress_jax.leaves.base import Array, Payload
from compress_jax.leaves.input_grids import Dynamic, StaticGrid, WithInputGrid
from compress_jax.leaves.stepped import Stepped


@base.node
class Quantized(WithInputGrid, Stepped):
  """Stands for `scale * (integers - zero_point)`.

  Attributes:
    integers: int8 (up to 8 bits) or int16 array of any shape.
    scale: float array like `integers` with 1 for every axis that shares it; an
      axis may also have one for every group of equal length.
    zero_point: integers like `scale`, or None for zero.
    input: how `lift` quantizes what the weight is applied to; None leaves it in
      floating point.
    bits: bits an integer needs.
    dense_dtype: name of the dtype of the array it stands for.
    pruned: whether what is zero was pruned, and stays zero when the leaf trains again.

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = Quantized(jnp.array([-3, 2], jnp.int8), jnp.float32(0.5), None, None, bits=4)
    >>> leaf.dense().tolist()
    [-1.5, 1.0]
  """

  integers: Array
  scale: Array
  zero_point: Array | None
  input: StaticGrid | Dynamic | None
  bits: int = base.static(default=8)
  dense_dtype: str = base.static(default="float32")
  pruned: bool = base.static(default=False)

  laid_out = ("integers", "scale", "zero_point")
  in_slices = (("input", 0),)
  former_statics = (("of", "dense_dtype"),)

  @property
  def shape(self):
    return self.integers.shape

  @property
  def dtype(self):
    return jnp.dtype(self.dense_dtype)

  @property
  def may_exceed_8_bits(self) -> bool:
    """Whether its integers take more than 8 bits."""
    return self.bits > 8

  def steps(self) -> Array:
    """Returns `integers - zero_point` as integer-valued float32."""
    values = self.integers.astype(jnp.float32)
    return values if self.zero_point is None else values - self._of_zero(self.zero_point)

  def _of_zero(self, zero_point: Array) -> Array:
    """Returns the code of 0.0 of every weight."""
    return grid.spread(zero_point, self.shape)

  def freeze(self) -> Quantized:
    return self

  def weight_bits(self) -> int:
    return self.bits

  def weight_mask(self) -> Array | None:
    return self.integers != self._zero() if self.pruned else None

  def masked(self, mask: Array) -> Quantized:
    return self.replace(integers=jnp.where(mask, self.integers, self._zero()), pruned=True)

  def _zero(self) -> Array | int:
    """Returns the code of 0.0, which is that of what is pruned."""
    if self.zero_point is None:
      return 0
    return self._of_zero(self.zero_point).astype(self.integers.dtype)

  def unrounded(self) -> Array:
    return self.dense()

  def payload(self) -> dict[str, Payload]:
    if self.zero_point is None:
      return super().payload() | {"integers": Payload(self.integers, self.bits)}
    integers = Payload(self.integers, self.bits, zero=self._of_zero(self.zero_point),
                       base="zero_point")
    return super().payload() | {"integers": integers}

  def validate(self) -> None:
    super().validate()
    checking.float_format("Quantized.dense_dtype", self.dense_dtype)
    checking.input_grid(self)
    checking.bits(self, self.bits, low=1)
    # Sums in int32 rely on it: more bits might leave them.
    checking.integers(self, "integers", self.bits)
    checking.steps(self, self.integers)

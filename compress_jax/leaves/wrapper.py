"""`Wrapper`: what leaves with one value inside have in common."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from compress_jax.leaves.base import Array, Leaf, is_leaf
from compress_jax.leaves.either import input_grid_of, mask_of, weight_bits_of, with_value


class Wrapper(Leaf):
  """A leaf that changes one value, an array or another leaf, which trains.

  A subclass has a data field `value`. What the value answers (shape, dtype, mask, block,
  bits, the input's grid) the leaf answers too, unless the subclass says otherwise.
  """

  trains: ClassVar[tuple[str, ...]] = ("value",)
  value: Any

  @property
  def shape(self) -> tuple[int, ...]:
    return self.value.shape

  @property
  def dtype(self) -> jnp.dtype:
    return jnp.dtype(self.value.dtype)

  def weight_mask(self) -> Array | None:
    return mask_of(self.value)

  def weight_bits(self) -> int:
    return weight_bits_of(self.value)

  @property
  def takes_input_grid(self) -> bool:
    return is_leaf(self.value) and self.value.takes_input_grid

  def input_grid(self) -> Any:
    return input_grid_of(self.value)

  def with_input_grid(self, grid: Any) -> Leaf:
    if not is_leaf(self.value):
      return super().with_input_grid(grid)
    return self.replace(value=self.value.with_input_grid(grid))

  def refitted(self) -> Leaf:
    return self.replace(value=self.value.refitted()) if is_leaf(self.value) else self

  def block_shape(self) -> tuple[int, int] | None:
    return self.value.block_shape() if is_leaf(self.value) else None

  def with_block(self, block: tuple[int, int]) -> Leaf:
    return self.replace(value=self.value.with_block(block)) if is_leaf(self.value) else self

  def with_value(self, value: Array) -> Leaf:
    return self.replace(value=with_value(self.value, value))

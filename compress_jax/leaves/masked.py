"""`Masked`: a value of which only some elements count."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
from jax.core import Tracer

from compress_jax.leaves import base, either
from compress_jax.leaves.base import Array, Leaf, Payload
from compress_jax.leaves.block_sparse import BlockSparse
from compress_jax.leaves.wrapper import Wrapper


@base.node
class Masked(Wrapper):
  """Stands for `value` where `mask` is true and exact zeros elsewhere.

  Attributes:
    value: array or leaf of any shape; trains.
    mask: bool array of the same shape; does not train.
    block: rows and columns of the blocks that were pruned whole, or None; deployed,
      only blocks with anything in them are stored.

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = Masked(jnp.array([1.0, 2.0]), jnp.array([True, False]))
    >>> leaf.dense().tolist()
    [1.0, 0.0]
  """

  value: Array | Leaf
  mask: Array
  block: tuple[int, int] | None = base.static(default=None)

  laid_out = ("value", "mask")

  def __post_init__(self):
    if isinstance(self.block, list | tuple):  # numpy's integers are no key of a program
      object.__setattr__(self, "block", tuple(int(n) if hasattr(n, "__index__") else n
                                              for n in self.block))

  def dense(self) -> Array:
    # A product would leave -0.0 and NaN behind; `where` also masks the gradient.
    return jnp.where(self.mask, either.dense_of(self.value), 0)

  def freeze(self) -> Leaf:
    inner = either.freeze_of(self.value)
    if base.is_leaf(inner):
      return inner.masked(self.mask)
    kept = jnp.where(self.mask, inner, 0)
    # Which blocks are stored is part of the structure: it must be known.
    if self.block is None or not BlockSparse.fits(self.shape) or isinstance(kept, Tracer):
      return Masked(kept, self.mask, self.block)
    return BlockSparse.from_dense(kept, self.block)

  def weight_mask(self) -> Array:
    return self.mask

  def transposed(self, order: tuple[int, ...]) -> Leaf:
    turned = super().transposed(order)
    if self.block is None or tuple(order) == tuple(range(self.ndim)):
      return turned
    # Only a matrix has its blocks turned; of other arrays they are no blocks any more.
    return turned.replace(block=self.block[::-1] if self.ndim == 2 else None)

  def block_shape(self) -> tuple[int, int] | None:
    return self.block

  def masked(self, mask: Array) -> Masked:
    return self.replace(mask=self.mask & mask)

  def with_block(self, block: tuple[int, int]) -> Masked:
    return self.replace(block=block)

  def unrounded(self) -> Leaf:
    return self.replace(value=either.unrounded_of(self.value))

  def scaled(self, factor: Array) -> Masked:
    return self.replace(value=either.scaled(self.value, factor))

  def payload(self) -> dict[str, Payload]:
    out = base.payload_of(self.value, "value")
    if not base.is_leaf(self.value):
      out["value"] = dataclasses.replace(out["value"], keep="mask")
    return out | {"mask": Payload(self.mask, 1, structure=True)}

  def validate(self) -> None:
    super().validate()
    if self.mask.dtype != bool or tuple(self.mask.shape) != tuple(self.value.shape):
      raise ValueError(f"Masked.mask: {self.mask.dtype} {tuple(self.mask.shape)}; must be bool "
                       f"{tuple(self.value.shape)}, like the value")
    if self.block is not None and min(self.block) < 1:
      raise ValueError(f"Masked.block: {self.block}; must be two whole numbers from 1, or None")


def apply_mask(x: Array | Leaf, mask: Array, block: tuple[int, int] | None = None) -> Leaf:
  """Returns `x` with exact zeros wherever `mask` is false; masks only add up.

  Args:
    x: an array or leaf.
    mask: bool array of its shape.
    block: see `Masked`.

  Returns:
    A leaf: an array becomes a `Masked`, a leaf masks what is inside.

  Raises:
    UnsupportedError: a leaf that cannot be masked.
  """
  if not base.is_leaf(x):
    return Masked(x, mask, block)
  out = x.masked(mask)
  return out if block is None else out.with_block(block)

"""`Masked`: a value of which only some elements count."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf, Payload
from compress_jax.leaves.block_sparse import BlockSparse


@base.node
class Masked(Leaf):
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

  trains = ("value",)

  def __post_init__(self):
    if self.block is not None:  # from JSON it comes as a list
      object.__setattr__(self, "block", tuple(self.block))

  @property
  def shape(self):
    return self.mask.shape

  @property
  def dtype(self):
    return self.value.dtype

  def dense(self) -> Array:
    # A product would leave -0.0 and NaN behind; `where` also masks the gradient.
    return jnp.where(self.mask, base.dense_of(self.value), 0)

  def freeze(self) -> Leaf:
    inner = base.freeze_of(self.value)
    if base.is_leaf(inner):
      return inner.masked(self.mask)
    kept = jnp.where(self.mask, inner, 0)
    blocked = self.block is not None and BlockSparse.fits(self.shape)
    if not blocked or isinstance(kept, jax.core.Tracer):
      return Masked(kept, self.mask, self.block)
    return BlockSparse.from_dense(kept, self.block)

  def masked(self, mask: Array) -> Masked:
    return dataclasses.replace(self, mask=self.mask & mask)

  def payload(self) -> dict[str, Payload]:
    out = base.payload_of(self.value, "value")
    if not base.is_leaf(self.value):
      out["value"] = dataclasses.replace(out["value"], keep="mask")
    return out | {"mask": Payload(self.mask, 1, structure=True)}


def apply_mask(x: Array | Leaf, mask: Array, block: tuple[int, int] | None = None) -> Leaf:
  """Returns `x` with exact zeros wherever `mask` is false; masks only add up.

  Args:
    x: an array or leaf.
    mask: bool array of its shape.
    block: see `Masked`.
  """
  if not base.is_leaf(x):
    return Masked(x, mask, block)
  out = x.masked(mask)
  return out if block is None else _with_block(out, block)


def _with_block(x: Leaf, block: tuple[int, int]) -> Leaf:
  """Notes the blocks at the mask inside a leaf, if it has one."""
  if isinstance(x, Masked):
    return dataclasses.replace(x, block=block)
  inner = getattr(x, "value", None)
  return dataclasses.replace(x, value=_with_block(inner, block)) if base.is_leaf(inner) else x

"""`Masked`: a value of which only some elements count."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf, Payload


@base.node
class Masked(Leaf):
  """Stands for `value` where `mask` is true and exact zeros elsewhere.

  Attributes:
    value: array or leaf of any shape; trains.
    mask: bool array of the same shape; does not train.

  Example:
    >>> import jax.numpy as jnp
    >>> leaf = Masked(jnp.array([1.0, 2.0]), jnp.array([True, False]))
    >>> leaf.dense().tolist()
    [1.0, 0.0]
  """

  value: Array | Leaf
  mask: Array

  trains = ("value",)

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
    return Masked(jnp.where(self.mask, inner, 0), self.mask)

  def masked(self, mask: Array) -> Masked:
    return dataclasses.replace(self, mask=self.mask & mask)

  def payload(self) -> dict[str, Payload]:
    out = base.payload_of(self.value, "value")
    if not base.is_leaf(self.value):
      out["value"] = dataclasses.replace(out["value"], keep="mask")
    return out | {"mask": Payload(self.mask, 1, structure=True)}


def apply_mask(x: Array | Leaf, mask: Array) -> Leaf:
  """Returns `x` with exact zeros wherever `mask` is false; masks only add up."""
  return x.masked(mask) if base.is_leaf(x) else Masked(x, mask)

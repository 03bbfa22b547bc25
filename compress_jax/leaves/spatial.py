"""`Spatial`: a convolution kernel as a vertical and a horizontal one."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf


@base.node
class Spatial(Leaf):
  """Stands for `sum over r of vertical[h, 0, i, r] * horizontal[0, w, r, o]`.

  Attributes:
    vertical: array or leaf of shape (height, 1, inputs, rank); trains.
    horizontal: array or leaf of shape (1, width, rank, outputs); trains.

  Example:
    >>> import jax.numpy as jnp
    >>> Spatial(jnp.ones((3, 1, 4, 2)), jnp.ones((1, 3, 2, 5))).dense().shape
    (3, 3, 4, 5)
  """

  vertical: Array | Leaf
  horizontal: Array | Leaf

  trains = ("vertical", "horizontal")
  parts = ("vertical", "horizontal")

  @property
  def shape(self):
    height, _, inputs, _ = self.vertical.shape
    _, width, _, outputs = self.horizontal.shape
    return (height, width, inputs, outputs)

  @property
  def dtype(self):
    return self.vertical.dtype

  @property
  def rank(self) -> int:
    """The channels between the two."""
    return self.vertical.shape[-1]

  def dense(self) -> Array:
    vertical, horizontal = (base.dense_of(x) for x in (self.vertical, self.horizontal))
    return jnp.einsum("hir,wro->hwio", vertical[:, 0], horizontal[0], precision="highest")

  def freeze(self) -> Spatial:
    return dataclasses.replace(self, **{k: base.freeze_of(x) for k, x in self.fields().items()})

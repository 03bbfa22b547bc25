"""`Spatial`: a convolution kernel as a vertical and a horizontal one."""

from __future__ import annotations

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.factors import Factors


@base.node
class Spatial(Factors):
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
    height, _, inputs, _ = self.vertical.shape[-4:]
    _, width, _, outputs = self.horizontal.shape[-4:]
    # A stack of kernels has its axis in front.
    return (*self.vertical.shape[:-4], height, width, inputs, outputs)

  @property
  def rank(self) -> int:
    """The channels between the two."""
    return self.vertical.shape[-1]

  @property
  def ranks(self):
    return (self.rank,)

  def dense(self) -> Array:
    vertical, horizontal = self.dense_parts()
    return jnp.einsum("hir,wro->hwio", vertical[:, 0], horizontal[0], precision="highest")

  def validate(self) -> None:
    super().validate()
    self._check_meet("vertical", -1, "horizontal", -2)
    if self.vertical.shape[-3] != 1 or self.horizontal.shape[-4] != 1:
      raise ValueError(f"Spatial: vertical has shape {tuple(self.vertical.shape)}, horizontal "
                       f"{tuple(self.horizontal.shape)}; must be (height, 1, inputs, rank) and "
                       "(1, width, rank, outputs)")

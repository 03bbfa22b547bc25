"""`LowRank`: a product of two thinner factors."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf


@base.node
class LowRank(Leaf):
  """Stands for `u @ v`; a convolution's `u` keeps the kernel's spatial axes.

  Attributes:
    u: array or leaf of shape (..., inputs, rank); trains.
    v: array or leaf of shape (rank, outputs); trains.

  Example:
    >>> import jax.numpy as jnp
    >>> LowRank(jnp.ones((3, 1)), jnp.ones((1, 2))).dense().shape
    (3, 2)
  """

  u: Array | Leaf
  v: Array | Leaf

  trains = ("u", "v")
  parts = ("u", "v")

  @property
  def shape(self):
    return (*self.u.shape[:-1], self.v.shape[-1])

  @property
  def dtype(self):
    return self.u.dtype

  @property
  def rank(self) -> int:
    """The number of columns of `u`."""
    return self.u.shape[-1]

  def dense(self) -> Array:
    u, v = base.dense_of(self.u), base.dense_of(self.v)
    return jnp.matmul(u, v, precision="highest")

  def freeze(self) -> LowRank:
    return dataclasses.replace(self, u=base.freeze_of(self.u), v=base.freeze_of(self.v))

"""`Tucker2`: a convolution kernel as channels in, a small core, channels out."""

from __future__ import annotations

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.factors import Factors


@base.node
class Tucker2(Factors):
  """Stands for `sum over r, s of u[i, r] * core[..., r, s] * v[s, o]`.

  Attributes:
    u: array or leaf of shape (inputs, input rank); trains.
    core: array or leaf of shape `(*window, input rank, output rank)`; trains.
    v: array or leaf of shape (output rank, outputs); trains.

  Example:
    >>> import jax.numpy as jnp
    >>> Tucker2(jnp.ones((4, 1)), jnp.ones((3, 3, 1, 2)), jnp.ones((2, 5))).dense().shape
    (3, 3, 4, 5)
  """

  u: Array | Leaf
  core: Array | Leaf
  v: Array | Leaf

  trains = ("u", "core", "v")
  parts = ("u", "core", "v")
  matrices = ("u", "v")

  @property
  def shape(self):
    return (*self.core.shape[:-2], self.u.shape[-2], self.v.shape[-1])

  @property
  def ranks(self):
    """The channels of the core, (in, out)."""
    return tuple(self.core.shape[-2:])

  def dense(self) -> Array:
    u, core, v = self.dense_parts()
    return jnp.einsum("ir,...rs,so->...io", u, core, v, precision="highest")

  def validate(self) -> None:
    super().validate()
    self._check_meet("u", -1, "core", -2)
    self._check_meet("core", -1, "v", -2)

"""`Float`: numbers in a narrow float format, as deployed."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array, Leaf


@base.node
class Float(Leaf):
  """Stands for `scale * values`.

  Attributes:
    values: array of a narrow float dtype.
    scale: float32 array like `values` with 1 for every axis that shares it, or
      None for 1.
    of: name of the dtype of the array it stands for.

  Example:
    >>> import jax.numpy as jnp
    >>> Float(jnp.ones(2, jnp.float8_e4m3fn), jnp.float32(0.5)).dense().tolist()
    [0.5, 0.5]
  """

  values: Array
  scale: Array | None
  of: str = base.static(default="float32")

  @property
  def shape(self):
    return self.values.shape

  @property
  def dtype(self):
    return jnp.dtype(self.of)

  def steps(self) -> Array:
    """Returns the values, before `scale`, as float32."""
    return self.values.astype(jnp.float32)

  def step_size(self) -> Array | None:
    """Returns `scale`, what one of `steps` stands for."""
    return self.scale

  def dense(self) -> Array:
    values = self.steps()
    return (values if self.scale is None else values * self.scale).astype(self.dtype)

  def freeze(self) -> Float:
    return self

  def masked(self, mask: Array) -> Float:
    return dataclasses.replace(self, values=jnp.where(mask, self.values, 0))

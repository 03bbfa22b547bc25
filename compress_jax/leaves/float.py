"""`Float`: numbers in a narrow float format, as deployed."""

from __future__ import annotations

import jax.numpy as jnp

from compress_jax.leaves import base, checking
from compress_jax.leaves.base import Array
from compress_jax.leaves.stepped import Stepped


@base.node
class Float(Stepped):
  """Stands for `scale * values`.

  Attributes:
    values: array of a narrow float dtype.
    scale: float32 array like `values` with 1 for every axis that shares it, or
      None for 1.
    dense_dtype: name of the dtype of the array it stands for.
    pruned: whether what is zero was pruned, and stays zero when the leaf trains again.

  Example:
    >>> import jax.numpy as jnp
    >>> Float(jnp.ones(2, jnp.float8_e4m3fn), jnp.float32(0.5)).dense().tolist()
    [0.5, 0.5]
  """

  values: Array
  scale: Array | None
  dense_dtype: str = base.static(default="float32")
  pruned: bool = base.static(default=False)

  laid_out = ("values", "scale")
  former_statics = (("of", "dense_dtype"),)

  @property
  def shape(self):
    return self.values.shape

  @property
  def dtype(self):
    return jnp.dtype(self.dense_dtype)

  def steps(self) -> Array:
    """Returns the values, before `scale`, as float32."""
    return self.values.astype(jnp.float32)

  def freeze(self) -> Float:
    return self

  def weight_bits(self) -> int:
    return base.bits_of(self.values.dtype)

  def weight_mask(self) -> Array | None:
    return self.values != 0 if self.pruned else None

  def masked(self, mask: Array) -> Float:
    return self.replace(values=jnp.where(mask, self.values, 0), pruned=True)

  def unrounded(self) -> Array:
    return self.dense()

  def validate(self) -> None:
    super().validate()
    checking.float_format("Float.dense_dtype", self.dense_dtype)
    checking.float_format("Float.values", self.values.dtype)
    checking.steps(self, self.values)

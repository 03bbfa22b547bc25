"""`FakeFloat`: a float value that acts as if it were in a narrower float format."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from compress_jax.leaves import base, checking, either, grid
from compress_jax.leaves.base import Array, Leaf
from compress_jax.leaves.float import Float
from compress_jax.leaves.stepped import Rounded


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def narrowed(x: Array, to: str) -> Array:
  """Rounds to a narrower format and clips to its range, straight-through gradient.

  Args:
    x: float32 array.
    to: name of the format.

  Returns:
    float32, of values that the format holds; clipped, because formats without
    infinity would give NaN.

  Example:
    >>> import jax.numpy as jnp
    >>> narrowed(jnp.array([1.1, 1e9]), "float8_e4m3fn").tolist()
    [1.125, 448.0]
  """
  largest = float(jnp.finfo(to).max)
  return jnp.clip(x, -largest, largest).astype(to).astype(jnp.float32)


@narrowed.defjvp
def _narrowed_jvp(to, primals, tangents):
  # A value that was clipped does not move its result; what rounds to the largest is not clipped,
  # such as a channel's largest weight, which its scale leaves a rounding error outside.
  to_be_rounded = 1 + float(jnp.finfo(to).eps) / 4
  inside = jnp.abs(primals[0]) <= float(jnp.finfo(to).max) * to_be_rounded
  return narrowed(primals[0], to), jnp.where(inside, tangents[0], 0)


def spanning(value: Array | Leaf, shape: tuple[int, ...], to: str) -> Array:
  """Returns the scales by which a format's range is that of some weights.

  Args:
    value: float array or leaf.
    shape: of the scales.
    to: name of the format.

  Returns:
    float32.
  """
  magnitude = jnp.abs(either.dense_of(value).astype(jnp.float32))
  scale = grid.reduce_to(jnp.max, magnitude, shape) / float(jnp.finfo(to).max)
  # A scale too small for a normal float32 serves weights that are zero.
  return jnp.where(scale > jnp.finfo(jnp.float32).tiny, scale, 1.0)


@base.node
class FakeFloat(Rounded):
  """Stands for `value` rounded to a narrower float format.

  Attributes:
    value: float array or leaf of any shape; trains.
    scale: float32 array like `value` with 1 for every axis that shares it, which
      the value is divided by first; None for 1.
    to: name of the format ("float16", "bfloat16", "float8_e4m3fn", ...).

  Example:
    >>> import jax.numpy as jnp
    >>> FakeFloat(jnp.array([1.001]), None, to="bfloat16").dense().tolist()
    [1.0]
  """

  value: Array | Leaf
  scale: Array | None
  to: str = base.static(default="bfloat16")

  laid_out = ("value", "scale")

  def steps(self) -> Array:
    """Returns the rounded values, before `scale`, as float32."""
    value = either.dense_of(self.value).astype(jnp.float32)
    return narrowed(value if self.scale is None else value / self.scale, self.to)

  def freeze(self) -> Float:
    return Float(self.steps().astype(self.to), self.scale, dense_dtype=self.dtype.name,
                 pruned=either.is_pruned(self.value))

  def refitted(self) -> FakeFloat:
    """Returns the leaf on scales that span its present value."""
    if self.scale is None:
      return self
    return self.replace(scale=spanning(self.value, self.scale.shape, self.to))

  def weight_bits(self) -> int:
    return base.bits_of(self.to)

  def validate(self) -> None:
    super().validate()
    checking.float_format("FakeFloat.to", self.to)
    checking.steps(self, self.value)

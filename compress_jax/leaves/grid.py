"""The arithmetic of affine quantization, shared by weights and activations."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from compress_jax.leaves import base
from compress_jax.leaves.base import Array


def limits(bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
  """Returns the smallest and largest integer of a grid.

  Args:
    bits: int32 scalar, 2 to 16; may be traced.
    symmetric: a symmetric grid leaves out the lowest integer, so that it holds
      the negative of each of its values (Jacob et al. 2018, appendix).

  Returns:
    Two float32 scalars, exact.

  Example:
    >>> [float(x) for x in limits(8, symmetric=True)]
    [-127.0, 127.0]
  """
  half = jnp.left_shift(1, jnp.asarray(bits, jnp.int32) - 1).astype(jnp.float32)
  return (1 - half if symmetric else -half), half - 1


@jax.custom_jvp
def round_clip(x: Array, low: Array, high: Array) -> Array:
  """Rounds half to even and clips, with the straight-through gradient.

  Args:
    x: float array.
    low: smallest result.
    high: largest result.

  Returns:
    Integer-valued floats. The gradient is 1 where rounding alone stayed within
    the limits, both included, and 0 elsewhere (Bengio et al. 2013).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.vmap(jax.grad(round_clip), (0, None, None))(jnp.array([0.4, 9.0]), -1.0, 1.0).tolist()
    [1.0, 0.0]
  """
  return jnp.clip(jnp.round(x), low, high)


@round_clip.defjvp
def _round_clip_jvp(primals, tangents):
  x, low, high = primals
  rounded = jnp.round(x)
  out = jnp.clip(rounded, low, high)
  # Where it was clipped the limit is the result, so its tangent is the limit's.
  inside = (rounded >= low) & (rounded <= high)
  limit = jnp.where(rounded < low, tangents[1], tangents[2])
  return out, jnp.where(inside, tangents[0], limit)


def steps(x: Array, scale: Array, zero_point: Array | None, bits: Array | int) -> Array:
  """Returns x in units of `scale` from zero, rounded to the grid.

  Args:
    x: float array.
    scale: float array that broadcasts to x: the grid's step.
    zero_point: integers that broadcast to x, the code of 0.0; None is a
      symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.

  Returns:
    `q - zero_point` as integer-valued float32, with the straight-through
    gradient (ONNX QuantizeLinear: q = saturate(round(x / scale) + zero_point)).

  Example:
    >>> import jax.numpy as jnp
    >>> steps(jnp.array([0.26, -9.0]), jnp.float32(0.1), None, 8).tolist()
    [3.0, -90.0]
  """
  low, high = limits(bits, zero_point is None)
  if zero_point is not None:
    zero = zero_point.astype(jnp.float32)
    low, high = low - zero, high - zero
  return round_clip(x.astype(jnp.float32) / scale, low, high)


def codes(steps_: Array, zero_point: Array | None, dtype: jnp.dtype) -> Array:
  """Returns the stored integers of integer-valued floats from `steps`."""
  if zero_point is not None:
    steps_ = steps_ + zero_point.astype(jnp.float32)
  return steps_.astype(dtype)


def affine(low: Array, high: Array, bits: Array | int,
           symmetric: bool) -> tuple[Array, Array | None]:
  """Returns the grid that covers a range.

  Args:
    low: float array, the smallest value to cover.
    high: float array of the same shape, the largest.
    bits: int32 scalar, 2 to 16; may be traced.
    symmetric: whether 0.0 is the grid's middle.

  Returns:
    scale (float32, positive) and zero_point (int32; None if symmetric), both of
    the shape of `low`. An empty range gives scale 1.

  Example:
    >>> import jax.numpy as jnp
    >>> affine(jnp.float32(0), jnp.float32(255), 8, symmetric=False)
    (Array(1., dtype=float32), Array(-128, dtype=int32))
  """
  smallest, largest = limits(bits, symmetric)
  # 0.0 must be on the grid: padding, ReLU and masks rely on it.
  low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
  span = jnp.maximum(-low, high) if symmetric else high - low
  levels = largest if symmetric else largest - smallest
  scale = (span / levels).astype(jnp.float32)
  # A span too small for a normal float32 step is an empty range.
  scale = jnp.where(scale > jnp.finfo(jnp.float32).tiny, scale, 1.0)
  if symmetric:
    return scale, None
  zero = jnp.clip(smallest - jnp.round(low / scale), smallest, largest)
  return scale, zero.astype(jnp.int32)


@base.node
class Activation(base.Node):
  """The grid on which a layer's input is quantized.

  Attributes:
    scale: float32 scalar.
    zero_point: int32 scalar, or None for a symmetric grid.
    bits: int32 scalar, 2 to 8.

  Example:
    >>> import jax.numpy as jnp
    >>> Activation(jnp.float32(0.5), None, jnp.int32(8)).fake(jnp.array([0.7])).tolist()
    [0.5]
  """

  scale: Array
  zero_point: Array | None
  bits: Array

  def steps(self, x: Array) -> Array:
    """Returns `q - zero_point` of x as integer-valued float32; see `steps`."""
    return steps(x, self.scale, self.zero_point, self.bits)

  def fake(self, x: Array) -> Array:
    """Returns x rounded to the grid, float32, straight-through gradient."""
    return self.steps(x) * self.scale

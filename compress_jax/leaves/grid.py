"""The arithmetic of affine quantization, shared by weights and activations."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from compress_jax.leaves.base import Array

# XLA's CPU backend divides by a larger one as if it were infinite: its reciprocal is no
# normal float32.
LARGEST_STEP = np.float32(2.0**126)


def limits(bits: Array | int, symmetric: bool) -> tuple[Array | np.float32, Array | np.float32]:
  """Returns the smallest and largest integer of a grid.

  Args:
    bits: int32 scalar, 2 to 16; may be traced.
    symmetric: a symmetric grid leaves out the lowest integer, so that it holds
      the negative of each of its values (as Jacob et al. 2018, section 3.1, do for weights,
      for the sake of int16 sums).

  Returns:
    Two float32 scalars, exact.

  Example:
    >>> [float(x) for x in limits(8, symmetric=True)]
    [-127.0, 127.0]
  """
  if isinstance(bits, int):
    # A plain number is known to any program that is traced.
    half = np.float32(2**(bits - 1))
  else:
    half = jnp.left_shift(1, jnp.asarray(bits, jnp.int32) - 1).astype(jnp.float32)
  return (1 - half if symmetric else -half), half - 1


@functools.partial(jax.custom_jvp, nondiff_argnums=(3,))
def round_clip(x: Array, low: Array, high: Array, clip_first: bool = False) -> Array:
  """Rounds half to even and clips, with the straight-through gradient.

  Args:
    x: float array.
    low: smallest result.
    high: largest result.
    clip_first: whether what lies outside of the limits counts as clipped, as in LSQ
      (Esser et al. 2020, equation 3). If not, what would be rounded to a limit counts
      as rounded, as in PyTorch's learnable fake quantization: for grids that were fitted
      to the weights, whose largest may lie a rounding error outside.

  Returns:
    Integer-valued floats. The gradient is 1 where x was rounded and 0 where it was
    clipped (Bengio et al. 2013).

  Example:
    >>> import jax, jax.numpy as jnp
    >>> jax.vmap(jax.grad(round_clip), (0, None, None))(jnp.array([0.4, 9.0]), -1.0, 1.0).tolist()
    [1.0, 0.0]
  """
  return jnp.clip(jnp.round(x), low, high)


@round_clip.defjvp
def _round_clip_jvp(clip_first, primals, tangents):
  x, low, high = primals
  rounded = jnp.round(x)
  out = jnp.clip(rounded, low, high)
  if clip_first:
    below, above = x <= low, x >= high
  else:
    below, above = rounded < low, rounded > high
  # Where it was clipped the limit is the result, so its tangent is the limit's.
  limit = jnp.where(below, tangents[1], tangents[2])
  return out, jnp.where(below | above, limit, tangents[0])


@jax.custom_vjp
def scale_gradient(x: Array, factor: Array) -> Array:
  """Returns x; its gradient is multiplied by `factor`.

  Args:
    x: float array.
    factor: float, broadcastable to x.

  Returns:
    x.
  """
  return x


scale_gradient.defvjp(lambda x, factor: (x, factor),
                      lambda factor, g: (g * factor, jnp.zeros_like(factor)))


def positive(scale: Array) -> Array:
  """Returns a step that trains as the positive number that it stands for.

  Args:
    scale: float array; an optimizer may carry it through zero.

  Returns:
    Its magnitude, at least the smallest normal number: the gradient leads away from zero on
    either side.

  Example:
    >>> positive(jnp.array([-0.5, 0.25])).tolist()
    [0.5, 0.25]
  """
  return jnp.maximum(jnp.abs(scale), jnp.finfo(scale.dtype).tiny)


def spread(s: Array, shape: tuple[int, ...]) -> Array:
  """Lays what is shared by groups of elements over an array of their shape.

  Args:
    s: array each of whose axes divides that of `shape`; with fewer axes, entries for the
      indices of the first ones: of a stack, or a scalar.
    shape: of the array.

  Returns:
    An array that broadcasts to `shape`: every index of a grouped axis repeated.

  Example:
    >>> import jax.numpy as jnp
    >>> spread(jnp.array([[1, 2]]), (3, 4)).tolist()
    [[1, 1, 2, 2]]
  """
  if s.ndim < len(shape):
    s = s.reshape(*s.shape, *(1,) * (len(shape) - s.ndim))
  for axis in range(s.ndim):
    count, size = s.shape[axis], shape[axis]
    if 1 < count < size:
      s = jnp.repeat(s, size // count, axis)
  return s


def quantize_to_grid(x: Array, scale: Array, zero_point: Array | None, bits: Array | int,
                     learned: bool = False) -> Array:
  """Returns x in units of `scale` from zero, rounded to the grid.

  Args:
    x: float array.
    scale: float array: the grid's step, for single elements or groups (`spread`).
    zero_point: integers like `scale`, the code of 0.0; None is a symmetric grid.
    bits: int32 scalar, 2 to 16; may be traced.
    learned: whether `scale` trains, by LSQ's rule of what is clipped; see `round_clip`.

  Returns:
    `q - zero_point` as integer-valued float32, with the straight-through
    gradient (ONNX QuantizeLinear: q = saturate(round(x / scale) + zero_point)).

  Example:
    >>> import jax.numpy as jnp
    >>> quantize_to_grid(jnp.array([0.26, -9.0]), jnp.float32(0.1), None, 8).tolist()
    [3.0, -90.0]
  """
  low, high = limits(bits, zero_point is None)
  if zero_point is not None:
    zero = spread(zero_point.astype(jnp.float32), x.shape)
    low, high = low - zero, high - zero
  return round_clip(x.astype(jnp.float32) / spread(scale, x.shape), low, high, learned)


def codes(steps: Array, zero_point: Array | None, dtype: DTypeLike) -> Array:
  """Returns the stored integers of what `quantize_to_grid` returned.

  Args:
    steps: integer-valued float32, `q - zero_point`.
    zero_point: as for `quantize_to_grid`.
    dtype: of the integers.

  Returns:
    q, of the shape of `steps`.
  """
  if zero_point is not None:
    steps = steps + spread(zero_point.astype(jnp.float32), steps.shape)
  return steps.astype(dtype)


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
    the shape of `low`. An empty range gives scale 1; no scale is beyond `LARGEST_STEP`.

  Example:
    >>> import jax.numpy as jnp
    >>> affine(jnp.float32(0), jnp.float32(255), 8, symmetric=False)
    (Array(1., dtype=float32), Array(-128, dtype=int32))
  """
  smallest, largest = limits(bits, symmetric)
  # 0.0 must be on the grid: padding, ReLU and masks rely on it.
  low, high = jnp.minimum(low, 0.0), jnp.maximum(high, 0.0)
  if symmetric:
    scale = jnp.maximum(-low, high) / largest
  else:
    levels, span = largest - smallest, high - low
    # Where their distance is beyond float32, each side on its own.
    scale = jnp.where(jnp.isfinite(span), span / levels, high / levels - low / levels)
  scale = jnp.minimum(scale.astype(jnp.float32), LARGEST_STEP)
  # A span too small for a normal float32 step is an empty range; NaN stays, and shows.
  scale = jnp.where(scale <= jnp.finfo(jnp.float32).tiny, 1.0, scale)
  if symmetric:
    return scale, None
  zero = jnp.clip(smallest - jnp.round(low / scale), smallest, largest)
  return scale, zero.astype(jnp.int32)


def reduce_to(reduction: Callable[..., Array], w: Array, shape: tuple[int, ...]) -> Array:
  """Reduces every axis to the size it has in a shape: to 1, or group by group.

  Args:
    reduction: like `jnp.sum`, with `axis`.
    w: array.
    shape: each axis divides that of w.

  Returns:
    An array of that shape.

  Example:
    >>> import jax.numpy as jnp
    >>> reduce_to(jnp.max, jnp.arange(8).reshape(2, 4), (1, 2)).tolist()
    [[5, 7]]
  """
  if w.size == 0:  # nothing to reduce, for any group
    return jnp.zeros(shape, w.dtype)
  split = []
  for size, count in zip(w.shape, shape, strict=True):
    split += [count, size // count]
  # Every second axis now runs within the groups.
  return reduction(w.reshape(split), axis=tuple(range(1, 2 * w.ndim, 2)))


def ranges(w: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
  """Returns the smallest and the largest weight of every group.

  Args:
    w: float array.
    shape: of the scales that the groups share; see `reduce_to`.

  Returns:
    Two float32 arrays of that shape.
  """
  w = w.astype(jnp.float32)
  return reduce_to(jnp.min, w, shape), reduce_to(jnp.max, w, shape)


@functools.partial(jax.jit, static_argnames=("shape", "symmetric"))
def spanning(w: Array, shape: tuple[int, ...], bits: Array,
             symmetric: bool) -> tuple[Array, Array, Array, Array | None]:
  """Returns the grid that spans the weights of every group.

  Args:
    w: float array.
    shape: of the scales that the groups share; see `reduce_to`.
    bits: int32 scalar, 2 to 16.
    symmetric: whether 0.0 is the grid's middle.

  Returns:
    The smallest and the largest weights of `ranges`, then scale and zero_point of `affine`.
  """
  # One program per shape: by itself each of its ten operations takes as long to compile.
  low, high = ranges(w, shape)
  return low, high, *affine(low, high, bits, symmetric)

"""A convolution as one product of patches with the kernel, for devices whose own is no use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from compress_jax.kernels.windows import Window
from compress_jax.leaves.base import Array


def takes(x: Array, w: Array, params: dict[str, Any]) -> bool:
  """Returns whether `convolution` computes this: no groups of images, and windows within them.

  Args:
    x: the images, padded; a side may be a symbol, where a program is exported for all sizes.
    w: the kernel.
    params: of `conv_general_dilated`, without padding.
  """
  if params["batch_group_count"] != 1:
    return False
  try:
    return all(n >= 1 for n in _window(w, params).positions(_with_channels_last(x.shape, params)))
  except jax.errors.InconclusiveDimensionOperation:
    return False


def convolution(x: Array, w: Array, params: dict[str, Any], dtype: DTypeLike) -> Array:
  """Returns what `conv_general_dilated` does, as a product at full precision.

  Args:
    x: the images, padded; integers or floats.
    w: the kernel, of the same dtype.
    params: of `conv_general_dilated`, without padding.
    dtype: of the sums.

  Returns:
    The result, of that dtype, with its axes where `params` has them.

  Example:
    >>> import jax.numpy as jnp
    >>> from jax import lax
    >>> numbers = lax.conv_dimension_numbers((1, 3, 3, 2), (2, 2, 2, 1), ("NHWC", "HWIO", "NHWC"))
    >>> params = {"dimension_numbers": numbers, "window_strides": (1, 1), "padding": ((0, 0),) * 2,
    ...           "lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1,
    ...           "batch_group_count": 1}
    >>> images, kernel = jnp.ones((1, 3, 3, 2), jnp.int8), jnp.ones((2, 2, 2, 1), jnp.int8)
    >>> convolution(images, kernel, params, jnp.int32).ravel().tolist()
    [8, 8, 8, 8]
  """
  x = jnp.transpose(x, _with_channels_last(range(x.ndim), params))
  total = _product(_patches(x, w, params), _matrices(w, params), dtype)
  batch, channels, *spatial = params["dimension_numbers"].out_spec
  order = np.argsort((batch, *spatial, channels))
  return jnp.transpose(total, order.tolist())


def _with_channels_last(axes: Sequence[Any], params: dict[str, Any]) -> tuple[Any, ...]:
  """Returns one thing per axis of the images in the order (batch, *spatial, channels)."""
  batch, channels, *spatial = params["dimension_numbers"].lhs_spec
  return tuple(axes[axis] for axis in (batch, *spatial, channels))


def _window(w: Array, params: dict[str, Any]) -> Window:
  sizes = tuple(w.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:])
  return Window(sizes, params["window_strides"], params["rhs_dilation"])


def _patches(x: Array, w: Array, params: dict[str, Any]) -> Array:
  """Returns what the window sees: (batch, *positions, taps, groups, channels of a group)."""
  window, groups = _window(w, params), params["feature_group_count"]
  seen = jnp.stack([window.slice(x, tap, 0, x.shape[-1]) for tap in window], -2)
  return seen.reshape(*seen.shape[:-1], groups, seen.shape[-1] // groups)


def _matrices(w: Array, params: dict[str, Any]) -> Array:
  """Returns the kernel as (taps, channels of a group, groups, outputs of a group)."""
  outputs, inputs, *window = params["dimension_numbers"].rhs_spec
  w = jnp.transpose(w, (*window, inputs, outputs))
  groups = params["feature_group_count"]
  return w.reshape(math.prod(w.shape[:-2]), w.shape[-2], groups, w.shape[-1] // groups)


def _product(patches: Array, matrices: Array, dtype: DTypeLike) -> Array:
  """Returns (batch, *positions, outputs): sums over taps and channels, group by group."""
  taps, groups, channels = range(patches.ndim - 3, patches.ndim)
  total = lax.dot_general(
      patches, matrices, (((taps, channels), (0, 1)), ((groups,), (2,))),
      precision=lax.Precision.HIGHEST, preferred_element_type=jnp.dtype(dtype))
  total = jnp.moveaxis(total, 0, -2)  # batch axes come out first
  # Not -1: of no images the size of an axis cannot be told.
  return total.reshape(*total.shape[:-2], math.prod(total.shape[-2:]))

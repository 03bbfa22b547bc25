"""A convolution as one product of patches with the kernel, for devices whose own is no use."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike

from compress_jax.leaves.base import Array


def takes(x: Array, w: Array, params: dict[str, Any]) -> bool:
  """Returns whether `convolution` computes this: no groups of images, and windows within them.

  Args:
    x: the images; a side may be a symbol, where a program is exported for all sizes.
    w: the kernel.
    params: of `conv_general_dilated`.
  """
  if params["batch_group_count"] != 1:
    return False
  try:
    return all(span >= 1 for span in _spans(_padded_sides(x, params), w, params))
  except jax.errors.InconclusiveDimensionOperation:
    return False


def convolution(x: Array, w: Array, params: dict[str, Any], dtype: DTypeLike) -> Array:
  """Returns what `conv_general_dilated` does, as a product at full precision.

  Args:
    x: the images, integers or floats.
    w: the kernel, of the same dtype.
    params: of `conv_general_dilated`.
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
  images, outputs = params["dimension_numbers"].lhs_spec, params["dimension_numbers"].out_spec
  x = jnp.transpose(x, (images[0], *images[2:], images[1]))
  total = _product(_patches(x, w, params), _matrices(w, params), dtype)
  order = np.argsort((outputs[0], *outputs[2:], outputs[1]))
  return jnp.transpose(total, order.tolist())


def _padded_sides(x: Array, params: dict[str, Any]) -> list[Any]:
  """Returns the images' sides with all padding, that between pixels (lhs_dilation) included."""
  sides = [x.shape[axis] for axis in params["dimension_numbers"].lhs_spec[2:]]
  return [low + (n - 1) * dilation + 1 + high for n, dilation, (low, high) in
          zip(sides, params["lhs_dilation"], params["padding"], strict=True)]


def _spans(sides: Sequence[Any], w: Array, params: dict[str, Any]) -> list[Any]:
  """Returns on how many pixels a window may begin, along each side."""
  window = [w.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
  return [n - (k - 1) * dilation for n, k, dilation in
          zip(sides, window, params["rhs_dilation"], strict=True)]


def _patches(x: Array, w: Array, params: dict[str, Any]) -> Array:
  """Returns what the window sees: (batch, *positions, taps, groups, channels of a group)."""
  spaces = zip(params["padding"], params["lhs_dilation"], strict=True)
  config = [(low, high, dilation - 1) for (low, high), dilation in spaces]
  x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *config, (0, 0, 0)])
  spans, dilations = _spans(x.shape[1:-1], w, params), params["rhs_dilation"]
  window = [w.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
  slices = []
  for tap in itertools.product(*map(range, window)):
    first = [t * d for t, d in zip(tap, dilations, strict=True)]
    last = [f + span for f, span in zip(first, spans, strict=True)]
    slices.append(lax.slice(x, (0, *first, 0), (x.shape[0], *last, x.shape[-1]),
                            (1, *params["window_strides"], 1)))
  seen = jnp.stack(slices, -2)
  groups = params["feature_group_count"]
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

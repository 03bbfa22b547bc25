"""A convolution whose gradients are fast on a CPU.

XLA's CPU backend runs a convolution fast only in one layout (NHWC with HWIO).
Inside a loop the gradients that JAX derives miss it: 64 images of 32 x 32, 3 x 3,
64 to 64 channels take 10 s for the weights and 0.15 to 1.1 s for the input,
where the forward pass takes 25 ms (2 cores, JAX 0.10.2 and 0.12.0). So the transposes are
spelled out here. With a stride, squares of pixels are first made channels.

The gradient of the images is a convolution with the kernel turned around. That of the kernel was
what cost most: it is a matrix product of the images with patches of the output's gradient, or of
patches of the images with the gradient (patches are made of what has fewer channels), added
up over so few images that the patches stay in the cache. In GFLOP/s (`python -m
benchmarks.bench_convolution --repeats=3`, 3 x 3, batch 128; 2 Zen 3 cores, which have no
AVX-512; JAX 0.12.0, float32; medians of three processes):

| channels, side | forward | the kernel's gradient | as JAX derives it |
|---|---|---|---|
| 64 to 64, 32 | 85 | 61 | 7 |
| 128 to 128, 16 | 99 | 81 | 9 |
| 256 to 256, 8 | 85 | 86 | 39 |
| 512 to 512, 4 | 63 | 75 | 61 |
| 16 to 16, 32 | 63 | 40 | 7 |
| 64 to 64, 8 | 98 | 53 | 54 |
| 200 to 12, 32 | 47 | 67 | 4 |
| 400 to 12, 8 | 44 | 74 | 25 |
| 3 to 64, 32 | 19 | 23 | 7 |
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
_LAYOUT = ("NHWC", "HWIO", "NHWC")
_NO_PADDING = ((0, 0), (0, 0))

_PATCHES = 1_200_000  # bytes, which stay in the cache; half and twice as many cost a third
_FEW_IMAGES = 3  # of 2 x 2 pixels


def conv_general_dilated(lhs: Array, rhs: Array, window_strides: Any, padding: Any,
                         lhs_dilation: Any = None, rhs_dilation: Any = None,
                         dimension_numbers: Any = None, feature_group_count: int = 1,
                         **kwargs: Any) -> Array:
  """`lax.conv_general_dilated` with fast gradients on a CPU.

  Pass it to `flax.linen.Conv(conv_general_dilated=...)`. Dilated and grouped
  convolutions, and all on a GPU or TPU, are left to XLA.

  Args:
    lhs: images, NHWC.
    rhs: kernel, HWIO.
    window_strides: two integers.
    padding: "SAME", "VALID" or two pairs.
    lhs_dilation: as in `lax`.
    rhs_dilation: as in `lax`.
    dimension_numbers: as in `lax`.
    feature_group_count: as in `lax`.
    **kwargs: as in `lax` (precision and the like).

  Returns:
    NHWC.

  Example:
    >>> import jax.numpy as jnp
    >>> conv_general_dilated(jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2)), (1, 1), "SAME",
    ...                      dimension_numbers=("NHWC", "HWIO", "NHWC")).shape
    (1, 4, 4, 2)
  """
  plain = (_in_our_layout(lhs, rhs, dimension_numbers) and feature_group_count == 1
           and not _dilated(lhs_dilation) and not _dilated(rhs_dilation)
           # What Flax passes and the fast path does as well.
           and all(value is None or name == "precision" for name, value in kwargs.items()))
  if not plain or jax.default_backend() != "cpu":
    return lax.conv_general_dilated(
        lhs, rhs, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers,
        feature_group_count=feature_group_count, **kwargs)
  strides = tuple(window_strides)
  if isinstance(padding, str):
    padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], strides, padding)
  padding = tuple(map(tuple, padding))
  if rhs.shape[:2] == (1, 1) and strides != (1, 1) and padding == _NO_PADDING:
    # Only these pixels count; without a stride the gradients are matrix products.
    lhs, strides = lax.slice(lhs, (0,) * 4, lhs.shape, (1, *strides, 1)), (1, 1)
  tiny = lhs.shape[1:3] == (2, 2) and rhs.shape[:2] == (3, 3)
  if tiny and strides == (1, 1) and padding == ((1, 1), (1, 1)):
    # Exported for batches of any size, the number of images is a symbol.
    few = isinstance(lhs.shape[0], int) and lhs.shape[0] <= _FEW_IMAGES
    return _by_pixels(lhs, rhs) if few else _in_a_column(lhs, rhs)
  return _conv(lhs, rhs, strides, padding)


def _in_our_layout(lhs: Array, rhs: Array, dimension_numbers: Any) -> bool:
  if lhs.ndim != 4:
    return False
  asked, ours = (lax.conv_dimension_numbers(lhs.shape, rhs.shape, numbers)
                 for numbers in (dimension_numbers, _LAYOUT))
  return asked == ours


def _dilated(dilation: Any) -> bool:
  return any(each not in (None, 1) for each in dilation or ())


def _in_a_column(x: Array, w: Array) -> Array:
  """Convolves 2 x 2 images as one tall image, zeros between them.

  One by one XLA takes 490 ms for what takes 30 ms so, and five times that for the
  gradients (64 images, 512 to 512 channels; 2 cores, JAX 0.10.2 and 0.12.0).
  """
  count, height, width, channels = x.shape
  apart = jnp.concatenate([x, jnp.zeros_like(x[:, :1])], 1)
  column = apart.reshape(1, count * (height + 1), width, channels)
  column = jnp.concatenate([column, jnp.zeros_like(column[:, :, :1])], 2)
  y = _conv(column, w, (1, 1), ((1, 1), (1, 1)))
  return y.reshape(count, height + 1, width + 1, -1)[:, :height, :width]


def _by_pixels(x: Array, w: Array) -> Array:
  """Convolves 2 x 2 images as images of 3 x 3, one for what the kernel sees at each pixel.

  A single image takes 0.4 ms so and 14 ms in a column (512 to 512 channels, 2 cores); from
  four images on the column is faster. A matrix product would take 0.2 ms, but only a
  convolution is one that `cj.lift` runs on all leaves.
  """
  count, height, width, channels = x.shape
  x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
  seen = [x[:, i:i + 3, j:j + 3] for i in range(height) for j in range(width)]
  y = _conv(jnp.stack(seen, 1).reshape(-1, 3, 3, channels), w, (1, 1), _NO_PADDING)
  return y.reshape(count, height, width, -1)


def _nhwc(x: Array, w: Array, strides: Any, padding: Any) -> Array:
  return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=_LAYOUT)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, w: Array, strides: Any, padding: Any) -> Array:
  return _nhwc(x, w, strides, padding)


def _forward(x: Array, w: Array, strides: Any, padding: Any) -> tuple[Array, Any]:
  return _nhwc(x, w, strides, padding), (x, w)


def _backward(strides: Any, padding: Any, saved: Any, g: Array) -> tuple[Array, Array]:
  x, w = saved
  if strides == (1, 1):
    return _input_gradient(x, w, g, padding), _weight_gradient(x, w, g, padding)
  # The same product without a stride: squares of pixels become channels.
  x, undo_x = jax.vjp(functools.partial(_squares, strides=strides, padding=padding,
                                        kernel=w.shape[:2], out=g.shape[1:3]), x)
  w, undo_w = jax.vjp(functools.partial(_squares_of_kernel, strides=strides), w)
  (x_gradient,) = undo_x(_input_gradient(x, w, g, _NO_PADDING))
  (w_gradient,) = undo_w(_weight_gradient(x, w, g, _NO_PADDING))
  return x_gradient, w_gradient


def _squares(x: Array, strides: Any, padding: Any, kernel: Any, out: Any) -> Array:
  """Returns images, padded, with a stride's squares of pixels as channels."""
  # A kernel of k pixels covers ceil(k / s) squares of side s.
  sides = [o - 1 + math.ceil(k / s) for k, s, o in zip(kernel, strides, out, strict=True)]
  pads = [(low, s * side - n - low, 0) for n, (low, _), s, side in
          zip(x.shape[1:3], padding, strides, sides, strict=True)]
  x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *pads, (0, 0, 0)))
  x = x.reshape(len(x), sides[0], strides[0], sides[1], strides[1], -1)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), *sides, -1)


def _squares_of_kernel(w: Array, strides: Any) -> Array:
  """Returns the kernel that does on `_squares` what `w` does with a stride."""
  sides = [math.ceil(k / s) for k, s in zip(w.shape[:2], strides, strict=True)]
  pads = [(0, s * side - k) for k, s, side in zip(w.shape[:2], strides, sides, strict=True)]
  w = jnp.pad(w, (*pads, (0, 0), (0, 0)))
  w = w.reshape(sides[0], strides[0], sides[1], strides[1], *w.shape[2:])
  return w.transpose(0, 2, 1, 3, 4, 5).reshape(*sides, -1, w.shape[-1])


def _input_gradient(x: Array, w: Array, g: Array, padding: Any) -> Array:
  """Returns the gradient of images, by a convolution with the kernel turned around."""
  flipped = jnp.flip(w, (0, 1)).swapaxes(2, 3)
  return _nhwc(g, flipped, (1, 1), _gradient_pads(x, w, g, padding))


def _gradient_pads(x: Array, w: Array, g: Array, padding: Any) -> list[tuple[int, int]]:
  """Returns how the output's gradient is padded, so that each pixel sees all outputs it is in."""
  return [(k - 1 - low, n - gn + low) for k, n, gn, (low, _) in
          zip(w.shape[:2], x.shape[1:3], g.shape[1:3], padding, strict=True)]


def _weight_gradient(x: Array, w: Array, g: Array, padding: Any) -> Array:
  """Returns the gradient of the kernel, by products of patches."""
  if w.shape[:2] == (1, 1) and padding == _NO_PADDING and g.shape[:3] == x.shape[:3]:
    return (_rows(x).T @ _rows(g)).reshape(w.shape)
  of_images = x.shape[-1] < g.shape[-1]
  part = functools.partial(_of_images if of_images else _of_gradient, w, padding)
  narrow = x if of_images else g
  # A part's sum is added to a whole kernel: a large one is to have large parts.
  size = _part(narrow, w.shape[0] * w.shape[1], max(_PATCHES, w.size))
  if size == x.shape[0]:
    return part(x, g).astype(w.dtype)

  def add(total: Array, images: Any) -> tuple[Array, None]:
    return total + part(*images).astype(jnp.float32), None

  parts = [a.reshape(-1, size, *a.shape[1:]) for a in (x, g)]
  # Added up in float32, whatever the images' type: there are many parts.
  return lax.scan(add, jnp.zeros(w.shape, jnp.float32), parts)[0].astype(w.dtype)


def _part(images: Array, taps: int, most: int) -> int:
  """Returns how many images have so many bytes of patches, at most: a divisor of their number."""
  count = images.shape[0]
  if not isinstance(count, int):
    return count  # traced for batches of any size
  fitting = most // (taps * math.prod(images.shape[1:]) * images.dtype.itemsize)
  return next((size for size in range(min(fitting, count), 1, -1) if count % size == 0), 1)


def _of_images(w: Array, padding: Any, x: Array, g: Array) -> Array:
  """Returns the kernel's gradient by one product: patches of the images, and the gradient."""
  pads = [(low, k - 1 - low + gn - n) for k, n, gn, (low, _) in
          zip(w.shape[:2], x.shape[1:3], g.shape[1:3], padding, strict=True)]
  return (_patches(x, w.shape[:2], pads).T @ _rows(g)).reshape(w.shape)


def _of_gradient(w: Array, padding: Any, x: Array, g: Array) -> Array:
  """Returns the kernel's gradient by one product: the images, and patches of the gradient."""
  taps = _rows(x).T @ _patches(g, w.shape[:2], _gradient_pads(x, w, g, padding))
  # A pixel sees the first tap's output last.
  taps = taps.reshape(x.shape[-1], *w.shape[:2], g.shape[-1])
  return jnp.flip(taps, (1, 2)).transpose(1, 2, 0, 3)


def _patches(x: Array, kernel: Any, pads: Any) -> Array:
  """Returns a row per place of a kernel on padded images: what its taps see, one after another."""
  x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *((*pad, 0) for pad in pads), (0, 0, 0)))
  height, width = (n - k + 1 for n, k in zip(x.shape[1:3], kernel, strict=True))
  seen = [x[:, i:i + height, j:j + width] for i in range(kernel[0]) for j in range(kernel[1])]
  return _rows(jnp.concatenate(seen, -1))


def _rows(x: Array) -> Array:
  """Returns images as a row of channels per pixel."""
  return x.reshape(-1, x.shape[-1])


_conv.defvjp(_forward, _backward)

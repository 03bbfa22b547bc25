"""Augmentation inside the compiled step: uint8 batches in, floats out."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.scipy import ndimage

Array = jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
  """What is done to training images; zero or False switches a part off.

  Attributes:
    crop: largest shift in pixels, in each direction; zeros move in.
    flip: whether half of the images are mirrored.
    rotate: largest rotation in degrees, either way.
    jitter: largest relative change of brightness, contrast and saturation.
  """

  crop: int = 0
  flip: bool = False
  rotate: float = 0.0
  jitter: float = 0.0


def normalize(images: Array) -> Array:
  """Returns uint8 images as float32 from -1 to 1, of the same shape.

  Args:
    images: uint8, of any shape.
  """
  # Of one value for all images: nothing to store beside a model, or to fold into it.
  return images.astype(jnp.float32) / 127.5 - 1


def augment(key: Array, images: Array, options: Augment) -> Array:
  """Returns randomly changed images, normalized.

  Args:
    key: a PRNG key.
    images: uint8, (batch, height, width, channels).
    options: what to do.

  Returns:
    float32 images from about -1 to 1, of the same shape.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> augment(jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.uint8), Augment(crop=1)).shape
    (1, 8, 8, 1)
  """
  keys = jax.random.split(key, 3)
  x = images.astype(jnp.float32) / 255
  if options.flip:
    flip = jax.random.bernoulli(keys[0], 0.5, (len(x), 1, 1, 1))
    x = jnp.where(flip, x[:, :, ::-1], x)
  if options.crop or options.rotate:
    x = _move(keys[1], x, options)
  if options.jitter:
    x = _jitter(keys[2], x, options.jitter)
  return 2 * x - 1


def _move(key: Array, x: Array, options: Augment) -> Array:
  """Shifts and rotates each image by its own random amounts."""
  shift_key, angle_key = jax.random.split(key)
  shifts = jax.random.randint(shift_key, (len(x), 2), -options.crop, options.crop + 1)
  if not options.rotate:
    # Whole pixels: a slice, much cheaper than interpolation.
    return jax.vmap(_shifted, (0, 0, None))(x, shifts, options.crop)
  angles = jax.random.uniform(angle_key, (len(x),), minval=-1, maxval=1)
  return jax.vmap(_rotated)(x, shifts, jnp.deg2rad(options.rotate) * angles)


def _shifted(x: Array, shift: Array, most: int) -> Array:
  """Shifts an image by whole pixels, (rows, columns), zeros outside; `most` bounds them."""
  padded = jnp.pad(x, ((most, most), (most, most), (0, 0)))
  return jax.lax.dynamic_slice(padded, (*(shift + most), 0), x.shape)


def _rotated(x: Array, shift: Array, angle: Array) -> Array:
  """Rotates an image about its centre, in radians, and shifts it; bilinear, zeros outside."""
  height, width, _ = x.shape
  rows, columns = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2,
                               jnp.arange(width) - (width - 1) / 2, indexing="ij")
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # Where in the original each pixel of the result comes from.
  places = [cos * rows - sin * columns + shift[0] + (height - 1) / 2,
            sin * rows + cos * columns + shift[1] + (width - 1) / 2]
  sample = lambda channel: ndimage.map_coordinates(channel, places, order=1, mode="constant")
  return jax.vmap(sample, in_axes=-1, out_axes=-1)(x)


def _jitter(key: Array, x: Array, most: float) -> Array:
  """Changes brightness, then contrast, then saturation of each image by its own factors."""
  factors = 1 + jax.random.uniform(key, (3, len(x), 1, 1, 1), minval=-most, maxval=most)
  x = x * factors[0]
  mean = x.mean((1, 2, 3), keepdims=True)
  x = mean + factors[1] * (x - mean)
  grey = x.mean(-1, keepdims=True)
  return jnp.clip(grey + factors[2] * (x - grey), 0, 1)

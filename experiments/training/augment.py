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
    crop: largest shift in pixels, in each direction.
    pad: what moves in: "zero", or "reflect", the image mirrored at its edge.
    flip: whether half of the images are mirrored.
    alternating: whether each image is mirrored in every second epoch, in place of at
      random; half of the images are in the first.
    rotate: largest rotation in degrees, either way.
    jitter: largest relative change of brightness, contrast and saturation.
    cutout: side in pixels of a grey square somewhere in each image, cut at its edges.
    mixup: alpha of the Beta distribution by which images of a batch are mixed in pairs;
      `mixed` does so, where labels can be mixed too.

  Source: Jordan 2024 (arXiv 2404.00498, section 3.6) for alternating flips; DeVries and
  Taylor 2017 for cutout; Zhang et al. 2018 for mixup.
  """

  crop: int = 0
  flip: bool = False
  rotate: float = 0.0
  jitter: float = 0.0
  pad: str = "zero"
  alternating: bool = False
  cutout: int = 0
  mixup: float = 0.0


def normalize(images: Array) -> Array:
  """Returns uint8 images as float32 from -1 to 1, of the same shape.

  Args:
    images: uint8, of any shape.
  """
  # Of one value for all images: nothing to store beside a model, or to fold into it.
  return images.astype(jnp.float32) / 127.5 - 1


def augment(key: Array, images: Array, options: Augment, flips: Array | None = None) -> Array:
  """Returns randomly changed images, normalized; they are not mixed yet.

  Args:
    key: a PRNG key.
    images: uint8, (batch, height, width, channels).
    options: what to do.
    flips: bool, (batch,), which images are mirrored; None draws them.

  Returns:
    float32 images from about -1 to 1, of the same shape.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> augment(jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.uint8), Augment(crop=1)).shape
    (1, 8, 8, 1)
  """
  # All parts' numbers in one draw: to split a key and draw again takes longer to compile than
  # what is done with the numbers.
  draws = jax.random.uniform(key, (9, len(images)))
  x = images.astype(jnp.float32) / 255
  if options.flip:
    flips = draws[0] < 0.5 if flips is None else flips
    x = jnp.where(flips.reshape(-1, 1, 1, 1), x[:, :, ::-1], x)
  if options.crop or options.rotate:
    x = _move(draws[1:4], x, options)
  if options.jitter:
    x = _jitter(draws[4:7], x, options.jitter)
  x = 2 * x - 1
  if options.cutout:
    x = _cut_out(draws[7:9], x, options.cutout)
  return x


def alternating_flips(ids: Array, epoch: Array | int, seed: Array | int) -> Array:
  """Returns which images are mirrored in an epoch: each in every second one.

  Args:
    ids: integers, (batch,), of the images in their data set.
    epoch: from 0; may be traced.
    seed: of which half of the images is mirrored in the first epoch; may be traced.

  Returns:
    bool, (batch,).

  Source: Jordan 2024 (arXiv 2404.00498), section 3.6.

  Example:
    >>> ids = jnp.arange(4)
    >>> (alternating_flips(ids, 0, 7) ^ alternating_flips(ids, 1, 7)).tolist()
    [True, True, True, True]
  """
  # One key per image: an image's first epoch must not depend on its batch.
  key = jax.random.key(jnp.asarray(seed, jnp.uint32))
  bits = jax.vmap(lambda one: jax.random.bits(jax.random.fold_in(key, one), (), jnp.uint8))(ids)
  return (bits + jnp.asarray(epoch).astype(jnp.uint8)) % 2 == 1


def mixed(key: Array, images: Array, alpha: float) -> tuple[Array, Array]:
  """Mixes each image with the one at its place from the other end of the batch (mixup).

  Args:
    key: a PRNG key.
    images: (batch, height, width, channels).
    alpha: of the Beta distribution.

  Returns:
    (the images, each image's own share: one float for the whole batch).

  Source: Zhang et al. 2018, section 2; one share per batch as in the authors' code.
  """
  share = jax.random.beta(key, alpha, alpha)
  return share * images + (1 - share) * images[::-1], share


def _cut_out(draws: Array, x: Array, side: int) -> Array:
  """Puts zeros, which are grey, into a square with its centre anywhere in each image."""
  _, height, width, _ = x.shape
  centres = draws[:, :, None] * jnp.array([height, width]).reshape(2, 1, 1)
  # Compared by rows and by columns: no image is indexed.
  first = jnp.floor(centres - side / 2)
  rows, columns = jnp.arange(height) - first[0], jnp.arange(width) - first[1]
  inside = ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None]
  return jnp.where(inside[..., None], 0, x)


def _move(draws: Array, x: Array, options: Augment) -> Array:
  """Shifts and rotates each image by its own amounts, of three draws from 0 to 1."""
  places = 2 * options.crop + 1
  shifts = jnp.floor(draws[:2].T * places).astype(jnp.int32) - options.crop
  if not options.rotate:
    # Whole pixels: a slice, much cheaper than interpolation.
    return jax.vmap(_shifted, (0, 0, None, None))(x, shifts, options.crop, options.pad)
  angles = jnp.deg2rad(options.rotate) * (2 * draws[2] - 1)
  return jax.vmap(_rotated, (0, 0, 0, None))(x, shifts, angles, options.pad)


def _shifted(x: Array, shift: Array, most: int, pad: str = "zero") -> Array:
  """Shifts an image by whole pixels, (rows, columns); `most` bounds them."""
  mode = {"zero": "constant", "reflect": "reflect"}[pad]
  padded = jnp.pad(x, ((most, most), (most, most), (0, 0)), mode)
  return jax.lax.dynamic_slice(padded, (*(shift + most), 0), x.shape)


def _rotated(x: Array, shift: Array, angle: Array, pad: str = "zero") -> Array:
  """Rotates an image about its centre, in radians, and shifts it; bilinear."""
  height, width, _ = x.shape
  rows, columns = jnp.meshgrid(jnp.arange(height) - (height - 1) / 2,
                               jnp.arange(width) - (width - 1) / 2, indexing="ij")
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  # Where in the original each pixel of the result comes from.
  places = [cos * rows - sin * columns + shift[0] + (height - 1) / 2,
            sin * rows + cos * columns + shift[1] + (width - 1) / 2]
  # What is called "reflect" elsewhere is "mirror" here: the edge itself is not repeated.
  mode = {"zero": "constant", "reflect": "mirror"}[pad]
  sample = lambda channel: ndimage.map_coordinates(channel, places, order=1, mode=mode)
  return jax.vmap(sample, in_axes=-1, out_axes=-1)(x)


def _jitter(draws: Array, x: Array, most: float) -> Array:
  """Changes brightness, then contrast, then saturation of each image by its own factors."""
  factors = 1 + most * (2 * draws.reshape(3, -1, 1, 1, 1) - 1)
  x = x * factors[0]
  mean = x.mean((1, 2, 3), keepdims=True)
  x = mean + factors[1] * (x - mean)
  grey = x.mean(-1, keepdims=True)
  return jnp.clip(grey + factors[2] * (x - grey), 0, 1)

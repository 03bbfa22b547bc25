"""Augmentation: each part changes images, and none of them does nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.augment import (
  Augment,
  _rotated,
  _shifted,
  alternating_flips,
  augment,
  mixed,
  normalize,
)

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


def test_augmentation_switched_off_only_normalizes():
  np.testing.assert_allclose(augment(jax.random.key(0), IMAGES, Augment()), normalize(IMAGES),
                             atol=1e-6)


@pytest.mark.parametrize("option", [
    {"flip": True}, {"crop": 2}, {"rotate": 20.0}, {"jitter": 0.3}, {"cutout": 4},
    {"crop": 2, "pad": "reflect"}, {"rotate": 20.0, "pad": "reflect"}])
def test_each_part_of_the_augmentation_changes_images(option):
  out = augment(jax.random.key(0), IMAGES, Augment(**option))
  assert out.shape == IMAGES.shape and np.abs(out).max() <= 1 + 1e-6
  assert not np.allclose(out, normalize(IMAGES))
  if "flip" in option:
    plain = normalize(IMAGES)
    flipped = [np.allclose(o, p[:, ::-1]) for o, p in zip(out, plain, strict=True)]
    assert all(f or np.allclose(o, p) for f, o, p in zip(flipped, out, plain, strict=True))
    assert any(flipped)


def test_rotation_by_nothing_is_a_shift():
  x = normalize(IMAGES)[0]
  for shift in ((0, 0), (1, -2)):
    np.testing.assert_allclose(_rotated(x, jnp.array(shift), 0.0),
                               _shifted(x, jnp.array(shift), 2), atol=1e-5)


def test_reflection_moves_in_what_was_beside_the_edge():
  x = jnp.arange(16.0).reshape(4, 4, 1)
  shifted = _shifted(x, jnp.array((0, -1)), 2, "reflect")
  np.testing.assert_array_equal(shifted[:, :, 0], np.asarray(x)[:, [1, 0, 1, 2], 0])
  np.testing.assert_allclose(_rotated(x, jnp.array((0, -1)), 0.0, "reflect"), shifted, atol=1e-5)


def test_alternating_images_are_mirrored_in_every_second_epoch():
  ids = jnp.arange(2000)
  epochs = [np.asarray(alternating_flips(ids, epoch, 3)) for epoch in range(3)]
  assert (epochs[0] == epochs[2]).all() and (epochs[0] != epochs[1]).all()
  assert 0.45 < epochs[0].mean() < 0.55
  # An image's parity is its own, whatever batch it is in; another seed draws others.
  np.testing.assert_array_equal(alternating_flips(ids[7:9], 0, 3), epochs[0][7:9])
  assert not np.array_equal(alternating_flips(ids, 0, 4), epochs[0])
  out = augment(jax.random.key(0), IMAGES, Augment(flip=True), flips=jnp.arange(5) == 2)
  np.testing.assert_allclose(out[2], normalize(IMAGES)[2, :, ::-1], atol=1e-6)
  np.testing.assert_allclose(out[1], normalize(IMAGES)[1], atol=1e-6)


def test_cutout_is_one_square_of_grey():
  white = np.full((64, 8, 8, 1), 255, np.uint8)
  cut = np.asarray(augment(jax.random.key(0), white, Augment(cutout=4))) == 0
  sizes = cut.sum((1, 2, 3))
  assert sizes.max() == 16 and sizes.min() >= 4  # a quarter, where the centre is in a corner
  rows, columns = cut.any((2, 3)).sum(1), cut.any((1, 3)).sum(1)
  np.testing.assert_array_equal(rows * columns, sizes)


def test_mixed_images_are_between_two_of_the_batch():
  x = normalize(IMAGES)
  out, share = mixed(jax.random.key(1), x, 0.5)
  assert 0 <= share <= 1
  np.testing.assert_allclose(out, share * x + (1 - share) * x[::-1], rtol=1e-6)


def test_what_is_drawn_for_one_part_says_nothing_of_another():
  # Grey images: brightness is all that jitter changes, and cutout leaves zeros.
  out = np.asarray(augment(jax.random.key(0), np.full((500, 16, 16, 3), 100, np.uint8),
                           Augment(jitter=0.5, cutout=4)))[..., 0]
  zeros = out == 0
  brightness = np.where(zeros, -np.inf, out).max((1, 2))
  for axis in (1, 2):
    places = (zeros.any(3 - axis) * np.arange(16)).sum(1) / zeros.any(3 - axis).sum(1)
    assert abs(np.corrcoef(brightness, places)[0, 1]) < 0.2

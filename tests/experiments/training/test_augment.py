"""Augmentation: each part changes images, and none of them does nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.training.augment import Augment, _rotated, _shifted, augment, normalize

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


def test_augmentation_switched_off_only_normalizes():
  np.testing.assert_allclose(augment(jax.random.key(0), IMAGES, Augment()), normalize(IMAGES),
                             atol=1e-6)


@pytest.mark.parametrize("option", [{"flip": True}, {"crop": 2}, {"rotate": 20.0}, {"jitter": 0.3}])
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

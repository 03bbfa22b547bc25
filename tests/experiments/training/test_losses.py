"""Losses: what smoothing, mixing and a teacher make of the labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments.training import losses

LOGITS = jax.random.normal(jax.random.key(0), (6, 4))
LABELS = jnp.array([0, 1, 2, 3, 0, 2])


def test_without_smoothing_and_mixing_it_is_the_cross_entropy():
  plain = cj.distill.cross_entropy(LOGITS, LABELS)
  assert losses.on_labels(LOGITS, LABELS) == plain
  for smoothing, share in ((0.0, None), (None, 1.0), (0.0, 1.0)):
    np.testing.assert_allclose(losses.on_labels(LOGITS, LABELS, smoothing, share), plain,
                               rtol=1e-6)


def test_smoothing_and_mixing_are_means_of_cross_entropies():
  plain = lambda labels: float(cj.distill.cross_entropy(LOGITS, labels))
  every = np.mean([plain(jnp.full(6, c)) for c in range(4)])
  np.testing.assert_allclose(losses.on_labels(LOGITS, LABELS, 0.2),
                             0.8 * plain(LABELS) + 0.2 * every, rtol=1e-5)
  np.testing.assert_allclose(losses.on_labels(LOGITS, LABELS, share=0.7),
                             0.7 * plain(LABELS) + 0.3 * plain(LABELS[::-1]), rtol=1e-5)


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_shows(label):
  labels = LABELS.at[1].set(label)
  for options in ({}, {"smoothing": 0.1}, {"share": 0.7}, {"smoothing": 0.1, "share": 0.7}):
    assert not jnp.isnan(losses.on_labels(LOGITS, LABELS, **options))
    assert jnp.isnan(losses.on_labels(LOGITS, labels, **options)), options


def test_a_teachers_part_is_hintons():
  soft, numbers = LOGITS[::-1] * 2, {"temperature": 3.0, "alpha": 0.4}
  np.testing.assert_allclose(losses.on_teacher(LOGITS, soft, LABELS, numbers, 0.0, None),
                             losses.on_teacher(LOGITS, soft, LABELS, numbers), rtol=1e-6)

"""Averages of probabilities, as teachers and as an ensemble."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


@given(st.integers(1, 4), st.floats(0.5, 8), st.integers(0, 99))
def test_probabilities_at_the_temperature_are_the_weighted_mean(models, t, seed):
  rng = np.random.default_rng(seed)
  logits, weights = rng.normal(0, 4, (models, 3, 5)), rng.uniform(0.1, 2, models)
  out = cj.distill.average(jnp.asarray(logits), temperature=t, weights=jnp.asarray(weights))
  softmax = lambda z: np.exp(z / t) / np.exp(z / t).sum(-1, keepdims=True)
  expected = np.einsum("m,mbc->bc", weights / weights.sum(), softmax(logits))
  np.testing.assert_allclose(softmax(np.asarray(out)), expected, rtol=1e-3, atol=1e-6)


def test_several_teachers_teach_their_mean():
  rng = np.random.default_rng(1)
  student, *teachers = jnp.asarray(rng.normal(0, 2, (4, 6, 5)), jnp.float32)
  t, teachers = 3.0, jnp.stack(teachers)
  together = lambda s: cj.distill.kl(s, cj.distill.average(teachers, temperature=t), temperature=t)
  each = lambda s: sum(cj.distill.kl(s, one, temperature=t) for one in teachers) / 3
  # The divergences differ by a constant of the teachers, so their gradients are one.
  np.testing.assert_allclose(jax.grad(together)(student), jax.grad(each)(student), atol=1e-5)


def test_a_class_that_all_models_rule_out_has_no_gradient():
  logits = jnp.array([[[1.0, 2.0, -jnp.inf]], [[0.0, 1.0, -jnp.inf]]])
  labels = jnp.array([0])
  loss = lambda logits: cj.distill.cross_entropy(cj.distill.average(logits), labels)
  assert cj.distill.average(logits)[0, 2] == -jnp.inf
  # As if the class were not there.
  np.testing.assert_allclose(jax.grad(loss)(logits)[..., :2], jax.grad(loss)(logits[..., :2]))


def test_bad_shapes_are_named():
  with pytest.raises(ValueError, match=r"logits \(3, 4\): must be \(models, batch, classes\)"):
    cj.distill.average(jnp.ones((3, 4)))
  with pytest.raises(ValueError, match=r"weights \(2,\)"):
    cj.distill.average(jnp.ones((3, 4, 5)), weights=jnp.ones(2))
  with pytest.raises(ValueError, match="must be one number from 1e-06"):
    cj.distill.average(jnp.ones((3, 4, 5)), temperature=jnp.ones((4, 1)))


def test_a_negative_weight_is_refused():
  with pytest.raises(ValueError, match="weights=.*must be from 0 to inf"):
    cj.distill.average(jnp.zeros((2, 1, 3)), weights=jnp.array([2.0, -1.0]))


@pytest.mark.parametrize("models,weights,message", [
    (0, None, r"logits \(0, 1, 2\): must be"), (2, [0.0, 0.0], "weights=.*must have one above 0"),
    (2, [1.0], r"weights \(1,\): must be")])
def test_an_ensemble_has_a_model_that_counts(models, weights, message):
  with pytest.raises(ValueError, match=message):
    cj.distill.average(jnp.zeros((models, 1, 2)), weights=weights)
  assert cj.distill.average(jnp.zeros((2, 1, 2)), weights=[1, 3]).shape == (1, 2)

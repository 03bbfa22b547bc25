"""Soft-target losses against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


def reference(student, teacher, labels, t, alpha):
  softmax = lambda z: np.exp(z - z.max(-1, keepdims=True)) / np.exp(
      z - z.max(-1, keepdims=True)).sum(-1, keepdims=True)
  p, q = softmax(teacher / t), softmax(student / t)
  soft = (p * (np.log(p) - np.log(q))).sum(-1).mean()
  hard = -np.log(softmax(student)[np.arange(len(labels)), labels]).mean()
  return alpha * t * t * soft + (1 - alpha) * hard


@given(st.floats(0.5, 20), st.floats(0, 1), st.integers(0, 100))
def test_is_the_weighted_sum_of_divergence_and_cross_entropy(t, alpha, seed):
  rng = np.random.default_rng(seed)
  student, teacher = rng.normal(0, 3, (2, 6, 5))
  labels = rng.integers(0, 5, 6)
  loss = cj.distill.hinton(jnp.asarray(student), jnp.asarray(teacher), jnp.asarray(labels),
                           temperature=t, alpha=alpha)
  assert float(loss) == pytest.approx(reference(student, teacher, labels, t, alpha), rel=1e-3,
                                      abs=1e-4)


def test_gradient_is_that_of_the_matched_logits_at_high_temperature():
  # Hinton et al. 2015, equation 4: T^2 dC/dz -> (z - v) / N for zero-mean logits.
  z, v = jnp.array([[1.0, -2, 1]]), jnp.array([[0.5, 0.5, -1]])
  grad = jax.grad(lambda z: cj.distill.hinton(z, v, jnp.array([0]), temperature=1e3, alpha=1.0))(z)
  np.testing.assert_allclose(grad, (z - v) / 3, atol=2e-3)


def test_no_gradient_reaches_the_teacher():
  loss = lambda t: cj.distill.hinton(jnp.ones((1, 3)), t, jnp.array([0]), temperature=2, alpha=0.5)
  assert (jax.grad(loss)(jnp.array([[1.0, 2, 3]])) == 0).all()


@pytest.mark.parametrize("arguments,message", [
    ({"temperature": 0, "alpha": 0.5}, "temperature=0: must be from"),
    ({"temperature": 1, "alpha": 1.5}, "alpha=1.5: must be from 0 to 1")])
def test_bad_input_names_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.distill.hinton(jnp.ones((1, 2)), jnp.ones((1, 2)), jnp.array([0]), **arguments)


def test_a_class_the_teacher_rules_out_adds_nothing():
  teacher, student = jnp.array([[1.0, 2.0, -jnp.inf]]), jnp.array([[0.5, 0.1, 0.3]])
  loss = lambda s: cj.distill.hinton(s, teacher, jnp.array([0]), temperature=2.0, alpha=1.0)
  limit = cj.distill.hinton(student, teacher.at[0, 2].set(-1e4), jnp.array([0]), temperature=2.0,
                            alpha=1.0)
  assert float(loss(student)) == pytest.approx(float(limit), rel=1e-5)
  assert np.isfinite(jax.grad(loss)(student)).all()


@pytest.mark.parametrize("teacher,labels", [((4, 1), (4,)), ((4, 3), (1,))])
def test_shapes_that_do_not_belong_together_are_refused(teacher, labels):
  message = r"must be \(batch, classes\) twice|labels .* must be \(4,\)"
  with pytest.raises(ValueError, match=message):
    cj.distill.hinton(jnp.ones((4, 3)), jnp.ones(teacher), jnp.zeros(labels, int), temperature=1.0,
                      alpha=0.5)


def test_papers_variants_differ_from_hintons_by_what_they_say():
  rng = np.random.default_rng(0)
  student, teacher = jnp.asarray(rng.normal(0, 3, (2, 6, 5)), jnp.float32)
  labels, t, alpha = jnp.asarray(rng.integers(0, 5, 6)), 4.0, 0.3
  arguments = {"temperature": t, "alpha": alpha}
  value = {f.__name__: jax.value_and_grad(f)(student, teacher, labels, **arguments)
           for f in (cj.distill.hinton, cj.distill.soft_cross_entropy,
                     cj.distill.unscaled_cross_entropy)}
  p = np.asarray(jax.nn.softmax(teacher / t))
  entropy = -(p * np.log(p)).sum(-1).mean()
  hinton, soft, unscaled = (value[k] for k in value)
  np.testing.assert_allclose(soft[0], hinton[0] + alpha * t * t * entropy, rtol=1e-5)
  np.testing.assert_allclose(soft[1], hinton[1], atol=1e-6)
  hard = cj.distill.cross_entropy(student, labels)
  # -sum q_t log(q_s / T) = (cross-entropy at T) + log T, without T^2.
  expected = alpha * ((soft[0] - (1 - alpha) * hard) / (alpha * t * t) + np.log(t))
  np.testing.assert_allclose(unscaled[0], expected + (1 - alpha) * hard, rtol=1e-5)
  np.testing.assert_allclose(
      cj.distill.hinton(student, teacher, labels, temperature=t, alpha=1.0),
      cj.distill.kl(student, teacher, temperature=t), rtol=1e-6)


@pytest.mark.parametrize("name", ["hinton", "soft_cross_entropy", "unscaled_cross_entropy"])
def test_temperature_and_alpha_may_be_traced(name):
  logits, labels = jnp.arange(6.0).reshape(2, 3), jnp.array([0, 1])
  compiled = []

  @jax.jit
  def loss(t, a):
    compiled.append(1)
    return getattr(cj.distill, name)(logits, -logits, labels, temperature=t, alpha=a)

  for t, a in ((1.0, 0.1), (4.0, 0.9)):
    eager = getattr(cj.distill, name)(logits, -logits, labels, temperature=t, alpha=a)
    np.testing.assert_allclose(loss(t, a), eager, rtol=1e-5)
  assert len(compiled) == 1


@pytest.mark.parametrize("label", [-1, -100, 3])
def test_a_label_that_is_no_class_shows(label):
  logits = jnp.array([[1.0, 2.0, 9.0]])
  found = cj.distill.hinton(logits, logits, jnp.array([label]), temperature=1.0, alpha=0.5)
  assert jnp.isnan(found)


@pytest.mark.parametrize("logits,labels,message", [
    ((2, 3, 5), jnp.zeros((2, 3), int), r"logits \(2, 3, 5\), labels \(2, 3\): must be \(batch, c"),
    ((4, 3), jnp.zeros(1, int), r"logits \(4, 3\), labels \(1,\): must be"),
    ((4, 3), jnp.zeros((4, 3)), r"labels \(4, 3\): must be"),
    ((4, 3), jnp.zeros(4), "labels: float32; must be integers")])
def test_labels_that_do_not_belong_to_the_logits_are_refused(logits, labels, message):
  with pytest.raises(ValueError, match=message):
    cj.distill.cross_entropy(jnp.zeros(logits), labels)


def test_a_temperature_is_one_finite_number():
  logits = jnp.ones((2, 3))
  for temperature in (jnp.inf, jnp.ones(3)):
    with pytest.raises(ValueError, match="temperature=.*must be"):
      cj.distill.kl(logits, logits, temperature=temperature)

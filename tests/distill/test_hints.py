"""Feature hints, captured through `lift`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj


def test_a_compressed_student_learns_a_teachers_features():
  apply = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["head"]
  keys = jax.random.split(jax.random.key(0), 6)
  teacher = {"hidden": jax.random.normal(keys[0], (4, 8)), "head": jnp.ones((8, 2))}
  student = cj.quantize.affine(cj.prune.magnitude(
      {"hidden": jax.random.normal(keys[1], (4, 3)), "head": jnp.ones((3, 2))}, 0.25), 8)
  projection, x = jax.random.normal(keys[2], (3, 8)), jax.random.normal(keys[3], (16, 4))
  target = cj.capture(apply)(teacher, x)[1]["hidden"][0].output
  trainable, rest = cj.partition(student)

  @jax.jit
  def step(trainable, projection):
    def loss(trainable, projection):
      _, seen = cj.capture(apply)(cj.merge(trainable, rest), x)
      return cj.distill.hint(seen["hidden"][0].output, target, projection)
    value, grads = jax.value_and_grad(loss, (0, 1))(trainable, projection)
    return value, jax.tree.map(lambda p, g: p - 0.02 * g, (trainable, projection), grads)

  first, (trainable, projection) = step(trainable, projection)
  for _ in range(40):
    value, (trainable, projection) = step(trainable, projection)
  assert value < 0.5 * first
  zero = np.asarray(cj.dense(student)["hidden"]) == 0
  assert (np.asarray(cj.dense(cj.merge(trainable, rest))["hidden"])[zero] == 0).all()


def test_value_is_half_the_squared_distance_a_batch():
  a, b = jnp.ones((2, 3, 3, 4)), jnp.zeros((2, 3, 3, 4))
  assert float(cj.distill.hint(a, b)) == 18.0


@pytest.mark.parametrize("projection", [None, jnp.ones((3, 4)), jnp.ones((2, 3))])
def test_shapes_that_do_not_meet_are_refused(projection):
  with pytest.raises(ValueError, match=r"student \(5, 2\), teacher \(5, 4\)"):
    cj.distill.hint(jnp.ones((5, 2)), jnp.ones((5, 4)), projection)


def test_the_loss_is_float32_whatever_the_features_are():
  with jax.enable_x64(True):
    student, teacher = jnp.ones((2, 3), jnp.float64), jnp.zeros((2, 4), jnp.float64)
    assert cj.distill.hint(student, teacher, jnp.ones((3, 4), jnp.float64)).dtype == jnp.float32

"""Penalties act on what the leaves stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj


def test_masked_weights_are_not_penalized():
  params = cj.prune.magnitude({"w": jnp.array([[1.0, -3.0]]), "bias": jnp.ones(2)}, 0.5)
  assert float(cj.penalties.l1(params)) == 3 and float(cj.penalties.l2(params)) == 4.5
  trainable, rest = cj.partition(params)
  grads = jax.grad(lambda t, weight: weight * cj.penalties.l1(cj.merge(t, rest)))(trainable, 2.0)
  np.testing.assert_array_equal(grads["w"].value, [[0, -2]])
  np.testing.assert_array_equal(grads["bias"], [0, 0])


def test_nothing_selected_is_an_error():
  with pytest.raises(ValueError, match="where='zz' matches no"):
    cj.penalties.l1({"w": jnp.ones((1, 1))}, where="zz")

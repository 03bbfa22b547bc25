"""Latencies of any model that a stranger may have."""

import jax
import jax.numpy as jnp
import pytest

import compress_jax as cj


def test_a_tree_may_hold_functions_and_numbers():
  params = {"w": jnp.eye(3), "act": jax.nn.relu, "rate": 0.5}
  apply = lambda p, x: p["act"](x @ p["w"]) * p["rate"]
  times = cj.metrics.latency(apply, params, jnp.ones((2, 3)), calls=2)
  assert sorted(times) == [1, 2] and times[1].calls == 2


def test_batches_are_within_the_inputs():
  with pytest.raises(ValueError, match=r"batches=\[3\]: must be from 1 to 2"):
    cj.metrics.latency(lambda p, x: x @ p, jnp.eye(3), jnp.ones((2, 3)), batches=[3])

"""Latencies of any model that a stranger may have."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
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


def test_median_percentile_and_fastest_are_of_the_calls(monkeypatch):
  seconds = np.random.default_rng(0).exponential(size=21)
  clock = iter(np.stack([np.zeros(21), seconds], 1).ravel())
  monkeypatch.setattr(sys.modules["compress_jax.metrics.latency"], "time",
                      types.SimpleNamespace(perf_counter=lambda: next(clock)))
  found = cj.metrics.latency(lambda p, x: x @ p, jnp.eye(2), jnp.ones((1, 2)), calls=21)[1]
  assert found.median == np.median(seconds) and found.fastest == seconds.min()
  assert found.p95 == np.percentile(seconds, 95)


def test_a_call_takes_until_its_result_is_there(monkeypatch):
  now, wait = [0.0], jax.block_until_ready
  def waits(x):
    now[0] += 1
    return wait(x)
  monkeypatch.setattr(jax, "block_until_ready", waits)
  monkeypatch.setattr(sys.modules["compress_jax.metrics.latency"], "time",
                      types.SimpleNamespace(perf_counter=lambda: now[0]))
  found = cj.metrics.latency(lambda p, x: x @ p, jnp.eye(2), jnp.ones((1, 2)), calls=3)[1]
  assert found.fastest == found.median == 1

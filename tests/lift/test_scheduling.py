"""Programs hold one weight in floating point at a time, and have the gradients that they had."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj

LAYERS, SIDE = 6, 256
# Releases before 0.12 drop the order that they are told, for a CPU.
AT_ONCE = 1 if jax.__version_info__ >= (0, 12) else LAYERS

COMPRESSED = {
    "integers": lambda params: cj.quantize.affine(params, 8),
    "masked": lambda params: cj.prune.magnitude(params, 0.5),
    "clustered": lambda params: cj.quantize.cluster(params, 16, iterations=2),
    "bfloat16": lambda params: cj.quantize.cast(params, "bfloat16"),
}


def apply(params, x):
  for name in sorted(params):
    x = jnp.tanh(x @ params[name])
  return x


@pytest.fixture(scope="module")
def params():
  keys = jax.random.split(jax.random.key(0), LAYERS)
  return {f"layer{i}": jax.random.normal(key, (SIDE, SIDE)) / 16 for i, key in enumerate(keys)}


@pytest.mark.parametrize("rows", [1, 8])
@pytest.mark.parametrize("name", COMPRESSED)
def test_one_dense_weight_at_a_time(name, rows, params):
  deployed = cj.freeze(COMPRESSED[name](params))
  program = jax.jit(cj.lift(apply)).lower(deployed, jnp.ones((rows, SIDE))).compile()
  dense = 4 * SIDE**2
  # Half a weight more, for what is on its way between layers.
  assert program.memory_analysis().temp_size_in_bytes <= (AT_ONCE + 0.5) * dense


@pytest.mark.parametrize("name", ["masked", "bfloat16"])
def test_gradients_are_those_of_the_dense_model(name, params):
  trainable, rest = cj.partition(COMPRESSED[name](params))
  x = jax.random.normal(jax.random.key(1), (8, SIDE))

  def gradients(run):
    return jax.grad(lambda t: (run(cj.merge(t, rest), x)**2).sum())(trainable)

  lifted, dense = gradients(cj.lift(apply)), gradients(lambda p, x: apply(cj.dense(p), x))
  for a, b in zip(jax.tree.leaves(lifted), jax.tree.leaves(dense), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max())

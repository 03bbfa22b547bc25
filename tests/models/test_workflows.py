"""From a model as its library makes it to files, the same for Linen, NNX and Equinox."""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest

import compress_jax as cj
from tests.models import zoo
from tests.transforms import ALL

X, LABELS = zoo.images(16)


def trained(params, apply, steps=3):
  """Returns the parameters after a few steps, masks and grids in place, and all losses."""
  optimizer = optax.adam(1e-2)
  trainable, rest = cj.partition(params)

  def loss(trainable):
    logits = apply(cj.dense(cj.merge(trainable, rest)), X)
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()

  @jax.jit
  def step(trainable, state):
    value, gradient = jax.value_and_grad(loss)(trainable)
    updates, state = optimizer.update(gradient, state)
    return optax.apply_updates(trainable, updates), state, value

  state, losses = optimizer.init(trainable), []
  for _ in range(steps):
    trainable, state, value = step(trainable, state)
    losses.append(float(value))
  return cj.merge(trainable, rest), losses


@functools.cache
def workflow(name):
  """Returns (model, params after training, deployed params)."""
  model = zoo.MODELS[name](seed=0)
  params, losses = trained(model.params, model.apply, steps=6)
  assert losses[-1] < losses[0]
  params = cj.factorize.svd(params, rank=4, where=model.factorized)
  params = cj.prune.magnitude(params, 0.5)
  params = cj.quantize.affine(params, 4, axis=model.axis)
  params, _ = trained(params, model.apply)
  params = cj.quantize.calibrate(model.apply, params, [X])
  return model, params, cj.freeze(params)


FRESH = """
import sys, jax, numpy as np
import compress_jax as cj
from tests.models import zoo
name, path = sys.argv[1:]
model = zoo.MODELS[name](seed=1)  # other weights; the same classes and shapes
params, metadata = cj.artifact.load(path, like=model.params)
assert type(params) is type(model.params) and metadata == {"classes": 5}
np.save(path + ".npy", jax.jit(cj.lift(model.apply))(params, zoo.images(16)[0]))
"""

# Each model takes half a minute to compile: the test command has one, CI (`ALL=1`) all.
EACH = pytest.mark.parametrize("name", zoo.MODELS if ALL else ["equinox"])


@EACH
def test_statistics_do_not_train_and_zeros_stay(name):
  model, params, deployed = workflow(name)
  before, after = dict(cj.entries(model.params)[0]), dict(cj.entries(params)[0])
  assert before.keys() == after.keys()
  for path, x in before.items():
    if not jnp.issubdtype(x.dtype, jnp.floating) or "mean" in path or "var" in path:
      assert x is after[path]
  kinds = [type(x).__name__ for x in after.values() if cj.is_leaf(x)]
  assert sorted(kinds) == ["FakeQuant", "FakeQuant", "FakeQuant", "LowRank"]
  assert np.mean(list(cj.metrics.sparsity(deployed).values())) > 0.4


@EACH
def test_deployed_it_computes_what_was_trained(name):
  model, params, deployed = workflow(name)
  exact = jax.jit(cj.lift(model.apply))
  np.testing.assert_array_equal(exact(deployed, X), exact(params, X))
  dense = model.apply(cj.dense(deployed), X)
  np.testing.assert_allclose(exact(deployed, X), dense, atol=0.1 * float(jnp.abs(dense).max()))
  assert cj.size(deployed).artifact < cj.size(model.params).artifact / 2


@EACH
def test_a_fresh_process_gives_the_same_bits(name, tmp_path):
  model, _, deployed = workflow(name)
  path = tmp_path / "model.cjx"
  assert cj.artifact.save(path, deployed, classes=5) > 0
  subprocess.run([sys.executable, "-c", FRESH, name, path], check=True,
                 cwd=Path(__file__).parents[2])
  np.testing.assert_array_equal(np.load(f"{path}.npy"),
                                jax.jit(cj.lift(model.apply))(deployed, X))


@EACH
def test_a_checkpoint_goes_on_training(name, tmp_path):
  model, params, _ = workflow(name)
  cj.checkpoint.save(tmp_path / "step", params)
  loaded = cj.checkpoint.load(tmp_path / "step", like=zoo.MODELS[name](seed=1).params)[0]
  (expected, a), (found, b) = trained(params, model.apply, 1), trained(loaded, model.apply, 1)
  assert a == b
  assert jax.tree.structure(found) == jax.tree.structure(expected)


@EACH
def test_other_tools_read_it(name, tmp_path):
  model, _, deployed = workflow(name)
  expected = np.asarray(jax.jit(cj.lift(model.apply))(deployed, X))
  cj.export.stablehlo(tmp_path / "model.stablehlo", model.apply, deployed, X)
  program = jax.export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
  np.testing.assert_array_equal(program.call(X), expected)
  cj.export.onnx(tmp_path / "model.onnx", model.apply, deployed, X)
  session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
  (out,) = session.run(None, {"input": np.asarray(X)})
  np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
  cj.export.safetensors(tmp_path / "model.safetensors", deployed)

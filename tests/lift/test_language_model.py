"""A small language model in NNX: tied embeddings, attention, norms; the whole workflow."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import optax
import pytest
from flax import nnx

import compress_jax as cj

VOCABULARY, FEATURES = 24, 8


class Block(nnx.Module):
  """Causal attention and a gated feed-forward layer."""

  def __init__(self, rngs):
    self.norm0, self.norm1 = nnx.LayerNorm(FEATURES, rngs=rngs), nnx.RMSNorm(FEATURES, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(2, FEATURES, decode=False, rngs=rngs)
    self.up = nnx.Linear(FEATURES, 32, rngs=rngs)
    self.down = nnx.Linear(16, FEATURES, rngs=rngs)

  def __call__(self, x):
    x = x + self.attention(self.norm0(x), mask=nnx.make_causal_mask(x[..., 0]))
    a, b = jnp.split(self.up(self.norm1(x)), 2, axis=-1)
    return x + self.down(jax.nn.silu(a) * b)


class Model(nnx.Module):
  """Its embedding is its output layer too."""

  def __init__(self, rngs):
    self.embed = nnx.Embed(VOCABULARY, FEATURES, rngs=rngs)
    self.block0, self.block1 = Block(rngs), Block(rngs)

  def __call__(self, ids):
    return self.embed.attend(self.block1(self.block0(self.embed(ids))))


@pytest.fixture(scope="module")
def language_model():
  graph, state = nnx.split(Model(nnx.Rngs(0)))

  def apply(params, ids):
    new = jax.tree.map(lambda v: v, state)
    nnx.replace_by_pure_dict(new, params)
    return nnx.merge(graph, new)(ids)

  ids = jnp.asarray(np.random.default_rng(0).integers(0, VOCABULARY, (3, 7)))
  return nnx.to_pure_dict(state), apply, ids


def trained(params, apply, ids, steps=5):
  trainable, rest = cj.partition(params)
  optimizer = optax.adam(0.01)
  state = optimizer.init(trainable)

  @jax.jit
  def step(trainable, state):
    def loss(t):
      logits = apply(cj.dense(cj.merge(t, rest)), ids[:, :-1])
      return optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:]).mean()
    value, grads = jax.value_and_grad(loss)(trainable)
    updates, state = optimizer.update(grads, state)
    return optax.apply_updates(trainable, updates), state, value

  losses = []
  for _ in range(steps):
    trainable, state, loss = step(trainable, state)
    losses.append(float(loss))
  assert losses[-1] < losses[0]
  return cj.merge(trainable, rest)


def test_the_whole_workflow(language_model, tmp_path):
  params, apply, ids = language_model
  axes = cj.quantize.channel_axes(apply, params, ids)
  assert axes("embed/embedding") == 0  # what the output layer allows
  pruned = trained(cj.prune.magnitude(params, 0.5), apply, ids)
  fake = cj.quantize.affine(pruned, 4, axis=axes)
  fake = trained(fake, apply, ids, steps=3)
  fake = cj.quantize.calibrate(apply, fake, [ids])
  deployed = cj.freeze(fake)
  run = jax.jit(cj.lift(apply))
  np.testing.assert_array_equal(run(fake, ids), run(deployed, ids))
  size = cj.size(deployed)
  assert size.packed < size.dense / 2.5  # what is left are norms, biases and scales
  cj.artifact.save(tmp_path / "model.cjx", deployed)
  loaded = cj.artifact.load(tmp_path / "model.cjx")[0]
  np.testing.assert_array_equal(run(loaded, ids), run(deployed, ids))
  operations = cj.metrics.operations(apply, deployed, ids)
  assert operations["embed/embedding"].multiply_adds == 3 * 7 * FEATURES * VOCABULARY
  assert "block0/attention/query/kernel" in operations


def test_factors_and_exports(language_model, tmp_path):
  params, apply, ids = language_model
  p = cj.factorize.svd(params, rank=4, where="up/kernel|down/kernel")
  p = cj.freeze(cj.quantize.affine(p, 8, where="kernel|embedding", axis=None))
  expected = np.asarray(jax.jit(lambda ids: cj.lift(apply)(p, ids))(ids))  # weights inside
  cj.export.stablehlo(tmp_path / "model.stablehlo", apply, p, ids, batch=None)
  program = jax.export.deserialize(bytearray((tmp_path / "model.stablehlo").read_bytes()))
  np.testing.assert_array_equal(program.call(ids), expected)
  cj.export.onnx(tmp_path / "model.onnx", apply, p, ids, batch=None)
  session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
  name = session.get_inputs()[0]
  found = session.run(None, {name.name: np.asarray(ids, "int32")})[0]
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_what_has_no_rule_is_densified_wherever_a_model_is_run(tmp_path):
  apply = lambda p, x: (x @ jnp.sort(p["odd"])) @ p["w"]
  params = cj.quantize.affine({"odd": jnp.eye(4), "w": jnp.eye(4)}, 8)
  x = jnp.ones((1, 4))
  for run in (lambda **k: cj.metrics.operations(apply, params, x, **k),
              lambda **k: cj.export.stablehlo(tmp_path / "file", apply, params, x, **k)):
    with pytest.raises(cj.NoRule, match="sort on odd"):
      run()
    run(densify=True)
  assert set(cj.metrics.operations(apply, params, x, densify=True)) == {"w"}
  with pytest.raises(ValueError, match="odd: no product with this quantized leaf was seen"):
    cj.quantize.calibrate(apply, params, [x], densify=True)

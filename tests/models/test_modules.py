"""Whole modules and States as parameter trees, and what their names mean."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import compress_jax as cj
from tests.models import zoo

X, _ = zoo.images(4)


class _Attention(nnx.Module):
  def __init__(self, rngs):
    self.norm = nnx.BatchNorm(6, rngs=rngs)
    self.attention = nnx.MultiHeadAttention(num_heads=2, in_features=6, decode=False, rngs=rngs)


def test_variables_are_called_as_what_holds_them():
  """Flax's variables hold their array as `value`: "query/bias/value" is a bias all the same."""
  state = nnx.state(_Attention(nnx.Rngs(0)))
  trainable = [path for path, _ in cj.entries(cj.partition(state)[0])[0]]
  assert "norm/scale/value" in trainable and "attention/query/bias/value" in trainable
  assert not [path for path in trainable if "mean" in path or "var" in path.split("/")]
  pruned = dict(cj.entries(cj.prune.magnitude(state, 0.5))[0])
  assert {path for path, x in pruned.items() if cj.is_leaf(x)} == {
      f"attention/{name}/kernel/value" for name in ("query", "key", "value", "out")}


def test_a_whole_nnx_module_is_a_tree_of_parameters(tmp_path):
  model = zoo._Nnx(nnx.Rngs(0))
  model.eval()
  apply = lambda model, x: model(x)
  params = cj.quantize.calibrate(apply, cj.quantize.affine(model, 4), [X])
  expected = jax.jit(cj.lift(apply))(params, X)
  cj.artifact.save(tmp_path / "model.cjx", params)
  again = zoo._Nnx(nnx.Rngs(1))
  again.eval()
  loaded = cj.artifact.load(tmp_path / "model.cjx", like=again)[0]
  assert type(loaded) is zoo._Nnx and isinstance(loaded.head.kernel.get_value(), cj.Quantized)
  np.testing.assert_array_equal(jax.jit(cj.lift(apply))(loaded, X), expected)


def test_a_whole_equinox_module_is_a_tree_of_parameters(tmp_path):
  apply = lambda model, x: jax.vmap(model)(x)
  params = cj.quantize.affine(zoo._Equinox(jax.random.key(0)), 4, axis=0)
  params = cj.quantize.calibrate(apply, params, [X])
  expected = cj.lift(apply)(cj.freeze(params), X)
  cj.artifact.save(tmp_path / "model.cjx", params)
  loaded = cj.artifact.load(tmp_path / "model.cjx", like=zoo._Equinox(jax.random.key(1)))[0]
  assert loaded.features[1] is jax.nn.relu
  np.testing.assert_array_equal(cj.lift(apply)(loaded, X), expected)
  # A function in the file's place is refused where `like` has weights.
  with pytest.raises(ValueError, match=r"features/1: the file has no array \(when it was written"):
    cj.artifact.load(tmp_path / "model.cjx", like=eqx.tree_at(
        lambda model: model.features[1], zoo._Equinox(jax.random.key(1)), jnp.ones(3)))


def test_equinoxs_outputs_lie_along_the_first_axis():
  """Its weights are (out, in): grids along the last axis are those of the inputs."""
  model = zoo.equinox(0)
  with pytest.raises(cj.NoRule, match="features/0/weight"):
    cj.lift(model.apply)(cj.quantize.affine(model.params, 4, axis=-1), X)
  cj.lift(model.apply)(cj.quantize.affine(model.params, 4, axis=0), X)

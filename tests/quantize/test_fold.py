"""A folded model computes what the normalized one does."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments import models


def variables(name, **arguments):
  model = models.create(name, num_classes=10, **arguments)
  x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
  made = jax.jit(lambda k: model.init(k, x))(jax.random.key(1))
  noise = jax.random.split(jax.random.key(2), 2)
  made["batch_stats"] = jax.tree.map(
      lambda s: s + jnp.abs(jax.random.normal(noise[0], s.shape)), made["batch_stats"])
  made["params"] = jax.tree.map(
      lambda p: p + (0.3 * jax.random.normal(noise[1], p.shape) if p.ndim == 1 else 0),
      made["params"])
  folded = models.create(name, num_classes=10, folded=True, **arguments)
  return made, model, folded, x


@pytest.mark.parametrize("name,arguments", [("densenet", {"depth": 7, "growth": 4}),
                                            ("convnet", {"widths": (4, 4, 4), "hidden": (8, 8)})])
def test_predictions_stay(name, arguments):
  made, model, folded, x = variables(name, **arguments)
  params = cj.fold.batch_norm(made["params"], made["batch_stats"])
  expected = jax.eval_shape(folded.init, jax.random.key(0), x)["params"]
  assert jax.tree.structure(params) == jax.tree.structure(expected)
  np.testing.assert_allclose(folded.apply({"params": params}, x), model.apply(made, x), rtol=1e-4,
                             atol=1e-4)
  pruned = {**made, "params": cj.prune.magnitude(made["params"], 0.5)}
  masked = cj.fold.batch_norm(pruned["params"], made["batch_stats"])
  assert cj.count(masked)[1] < cj.count(params)[1]
  np.testing.assert_allclose(folded.apply({"params": cj.dense(masked)}, x),
                             model.apply(cj.dense(pruned), x), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_folded_is_named():
  one = jnp.ones((1, 1))
  params = {"l": {"conv": {"kernel": one}, "norm": {"scale": one[0], "bias": one[0]}}}
  with pytest.raises(ValueError, match="l/conv: .*must have"):
    cj.fold.batch_norm(params, {})
  stats = {"l": {"norm": {"mean": one[0], "var": one[0]}}}
  with pytest.raises(ValueError, match="l/conv/kernel: a FakeQuant cannot be folded"):
    cj.fold.batch_norm(cj.quantize.affine(params, 8, where="kernel"), stats)


def test_nothing_to_fold_is_an_error():
  with pytest.raises(ValueError, match="layer='conv', norm='norm': no dict"):
    cj.fold.batch_norm({"Conv_0": {"kernel": jnp.ones((1, 1))}}, {})


@pytest.mark.parametrize("factorize", [
    lambda p: cj.factorize.tucker2(p, rank=(2, 3)), lambda p: cj.factorize.spatial(p, rank=3),
    lambda p: cj.factorize.svd(p, rank=3, where="kernel"),
    lambda p: cj.prune.block(p, 0.5, block=(2, 2), where="kernel")])
def test_factors_and_blocks_fold_as_the_array_they_stand_for(factorize):
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.uniform(0.5, 2, shape), jnp.float32)
  p = factorize({"conv": {"kernel": draw(3, 3, 4, 6)}, "norm": {"scale": draw(6), "bias": draw(6)}})
  stats = {"norm": {"mean": draw(6), "var": draw(6)}}
  folded, plain = cj.fold.batch_norm(p, stats), cj.fold.batch_norm(cj.dense(p), stats)
  assert type(folded["conv"]["kernel"]) is type(p["conv"]["kernel"])
  np.testing.assert_allclose(folded["conv"]["kernel"].dense(), plain["conv"]["kernel"], rtol=1e-4,
                             atol=1e-5)


def test_layers_fold_in_every_container_and_keep_their_dtype():
  rng = np.random.default_rng(0)
  draw = lambda *shape: jnp.asarray(rng.uniform(0.5, 2, shape), jnp.bfloat16)
  def layer():
    return {"conv": {"kernel": draw(4, 3)}, "norm": {"scale": draw(3)}}  # without a bias
  def numbers():
    return {"norm": {"mean": draw(3), "var": draw(3)}}
  params = collections.OrderedDict(blocks=[layer(), (layer(),)], **layer())
  stats = {"blocks": [numbers(), (numbers(),)], **numbers()}
  folded = cj.fold.batch_norm(params, stats)
  pairs = [(folded, params, stats), (folded["blocks"][0], params["blocks"][0], stats["blocks"][0]),
           (folded["blocks"][1][0], params["blocks"][1][0], stats["blocks"][1][0])]
  for new, old, seen in pairs:
    assert "norm" not in new and new["conv"]["kernel"].dtype == jnp.bfloat16
    x = np.ones((1, 4), np.float32)
    mean, var = (np.asarray(seen["norm"][name], np.float32) for name in ("mean", "var"))
    normed = (x @ old["conv"]["kernel"] - mean) / np.sqrt(var + 1e-5) * old["norm"]["scale"]
    found = x @ new["conv"]["kernel"] + new["conv"]["bias"]
    np.testing.assert_allclose(np.asarray(found, np.float32), normed, atol=0.1)


@pytest.mark.parametrize("compress", [
    functools.partial(cj.prune.magnitude, sparsity=0.5),
    functools.partial(cj.factorize.svd, rank=2)])
def test_compressed_layers_keep_their_dtype(compress):
  params = {"conv": {"kernel": jnp.ones((3, 3, 4, 8), jnp.bfloat16)}, "norm": {}}
  stats = {"norm": {"mean": jnp.ones(8), "var": jnp.ones(8)}}
  kernel = cj.fold.batch_norm(compress(params, where="kernel"), stats)["conv"]["kernel"]
  assert kernel.dtype == kernel.dense().dtype == jnp.bfloat16
  floats = [x for x in jax.tree.leaves(kernel) if jnp.issubdtype(x.dtype, jnp.floating)]
  assert {x.dtype.name for x in floats} == {"bfloat16"}


def test_statistics_of_other_channels_are_refused():
  params = {"conv": {"kernel": jnp.ones((1, 1))}, "norm": {"scale": jnp.ones(4)}}
  with pytest.raises(ValueError, match=r"conv: mean \(4,\) and var \(4,\) .* must be \(1,\)"):
    cj.fold.batch_norm(params, {"norm": {"mean": jnp.ones(4), "var": jnp.ones(4)}})
  params = {"conv": {"kernel": jnp.ones((1, 1))}, "norm": {"scale": jnp.ones(1)}}
  with pytest.raises(ValueError, match="conv: var of 'norm'=.*must be from 0"):
    cj.fold.batch_norm(params, {"norm": {"mean": jnp.ones(1), "var": -jnp.ones(1)}})


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_a_channel_that_hardly_varies_is_folded_by_epsilon(epsilon):
  rng = np.random.default_rng(0)
  kernel, x = rng.normal(size=(4, 3)), rng.normal(size=(2, 4))
  mean, var, scale, bias = rng.normal(size=3), np.array([0.0, 1e-6, 1.0]), rng.normal(size=3), 1.0
  as_jax = lambda tree: jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), tree)
  params = as_jax({"conv": {"kernel": kernel}, "norm": {"scale": scale, "bias": np.full(3, bias)}})
  folded = cj.fold.batch_norm(params, as_jax({"norm": {"mean": mean, "var": var}}),
                              epsilon=epsilon)["conv"]
  expected = (x @ kernel - mean) / np.sqrt(var + epsilon) * scale + bias
  np.testing.assert_allclose(x @ folded["kernel"] + folded["bias"], expected, rtol=1e-4, atol=1e-3)

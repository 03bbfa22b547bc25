"""Plans do what the transforms do by hand; choices and options check their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from compress_jax.search import Choice
from tests.transforms import assert_same, params


@pytest.mark.parametrize("rank", [None, 3])
@pytest.mark.parametrize("bits", [None, 4, 12])
@pytest.mark.parametrize("sparsity", [0.0, 0.6])
def test_a_plan_is_the_transforms_by_hand(sparsity, bits, rank):
  by_hand, where = params(), "conv/kernel"
  if rank:
    by_hand = cj.factorize.svd(by_hand, rank=rank, where=where)
  if sparsity:
    by_hand = cj.prune.magnitude(by_hand, sparsity, where=where)
  if bits:
    by_hand = cj.quantize.affine(by_hand, bits, where=where)
  plan = {where: Choice(sparsity=sparsity, bits=bits, rank=rank)}
  made = cj.search.apply(params(), plan)
  assert_same(made, by_hand)
  assert_same(cj.artifact.decode(cj.artifact.encode(made))[0], cj.freeze(by_hand))


def test_layers_are_compressed_each_by_itself():
  plan = {"conv/kernel": Choice(sparsity=0.5), "dense/kernel": Choice(bits=3, rank=2)}
  made = cj.search.apply(params(), plan)
  for path, choice in plan.items():
    alone = dict(cj.entries(cj.search.apply(params(), {path: choice}))[0])
    assert_same(dict(cj.entries(made)[0])[path], alone[path])


def test_options_are_all_combinations_that_a_layer_can_have():
  found = cj.search.options(params(), sparsities=(0.0, 0.5), bits=(None, 8), ranks=(None, 0.1, 0.5))
  assert list(found) == ["conv/kernel", "dense/kernel"]
  # r_max: 36 * 6 / 42 = 5, of which a tenth is none; 16 * 12 / 28 = 6.
  assert [{c.rank for c in row} for row in found.values()] == [{None, 2}, {None, 3}]
  assert all(row[0] == Choice() and len(row) == len(set(row)) == 8 for row in found.values())
  for path, row in found.items():
    jax.eval_shape(lambda p=path, c=row[-1]: cj.search.apply(params(), {p: c}))
  assert list(cj.search.options(params(), where="bias")) == ["conv/bias"]
  assert {c.rank for c in cj.search.options({"b": jnp.ones(9)}, where="b")["b"]} == {None}


def test_layers_of_any_rank_keep_their_scales_per_output():
  keys = jax.random.split(jax.random.key(0), 4)
  shapes = {"conv": (3, 3, 4, 6), "query": (6, 2, 5), "dense": (10, 8), "turned": (6, 8)}
  weights = {name: jax.random.normal(key, shape)
             for key, (name, shape) in zip(keys, shapes.items(), strict=True)}

  def model(p, x):
    x = jax.lax.conv_general_dilated(x, p["conv"], (1, 1), "VALID",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC")).mean((1, 2))
    heads = jnp.einsum("bi,ihd->bhd", x, p["query"])
    return heads.reshape(-1, 10) @ p["dense"] @ p["turned"].T

  x = jax.random.normal(jax.random.key(1), (2, 5, 5, 4))
  axes = cj.quantize.channel_axes(model, weights, x)
  assert [axes(name) for name in shapes] == [3, (1, 2), 1, 0]
  found = cj.search.options(weights, bits=(8,), sparsities=(0.0,), axis=axes)
  assert all(cj.search.layer_bytes(weights, found)[name] for name in shapes)
  factors = {name: cj.search.apply(weights, {name: found[name][-1]})[name] for name in shapes}
  scales = {name: (leaf.u.scale.shape, leaf.v.scale.shape) for name, leaf in factors.items()}
  # One scale for each index that the factors' own products do not sum over.
  ranks = {name: leaf.v.shape[0] for name, leaf in factors.items()}
  assert scales["conv"] == ((1, 1, 1, ranks["conv"]), (1, 6))
  assert scales["dense"] == ((1, ranks["dense"]), (1, 8))
  assert scales["turned"] == ((6, 1), (ranks["turned"], 1))
  with pytest.raises(ValueError, match="dense: axis=3: must be from -2 to 1"):
    cj.search.apply(weights, {"dense": Choice(bits=8, rank=2, axis=3)})


def test_layers_with_outputs_first_are_deployed_as_they_were_searched():
  keys = jax.random.split(jax.random.key(0), 3)
  weights = {"a": jax.random.normal(keys[0], (24, 16)), "b": jax.random.normal(keys[1], (8, 24))}
  x = jax.random.normal(keys[2], (4, 16))
  model = lambda p, x: jax.nn.relu(x @ p["a"].T) @ p["b"].T
  axes = cj.quantize.channel_axes(model, weights, x)
  found = cj.search.options(weights, sparsities=(0.5,), bits=(None, 8), axis=axes)
  assert {(c.bits, c.axis) for row in found.values() for c in row} == {(None, -1), (8, 0)}
  found = {path: [c for c in row if c.bits] for path, row in found.items()}
  for choices in zip(*found.values(), strict=True):
    fake = cj.search.apply(weights, dict(zip(found, choices, strict=True)))
    np.testing.assert_allclose(cj.lift(model)(cj.freeze(fake), x), model(cj.dense(fake), x),
                               rtol=1e-5, atol=1e-5)
  assert cj.search.apply(weights, {"a": Choice(bits=4, axis=0)})["a"].scale.shape == (24, 1)


@pytest.mark.parametrize("make,message", [
    (lambda: Choice(sparsity=1.0), "sparsity=1.0: must be from 0 to below 1"),
    (lambda: Choice(bits=1), "bits=1: must be None or a whole number from 2 to 16"),
    (lambda: Choice(rank=0), "rank=0: must be None or a whole number from 1"),
    (lambda: cj.search.options(params(), ranks=(2.0,)), "ranks: 2.0 must be None, or above 0"),
    (lambda: Choice(bits=8.0), "bits=8.0: must be None or a whole number"),
    (lambda: Choice(rank=2.0), "rank=2.0: must be None or a whole number"),
    (lambda: Choice(bits=8, axis=0.5), "axis=0.5: must be None, a whole number or a tuple"),
    (lambda: Choice(bits=8, axis=[0]), r"axis=\[0\]: must be None, a whole number or a tuple"),
    (lambda: Choice(axis=0), "axis=0: must be -1 where bits is None"),
    (lambda: cj.search.apply(params(), {"conv/kernel": Choice(bits=8, axis=7)}),
     "conv/kernel: axis=7: must be from -4 to 3"),
    (lambda: cj.search.layer_bytes(params(), {"head": [Choice()]}), "choices: no leaf 'head'"),
    (lambda: cj.search.apply({"a/b": jnp.eye(2), "a": {"b": jnp.ones((2, 2))}}, {}),
     "'a/b' is the path of two leaves"),
    (lambda: cj.search.apply(params(), {"head": Choice()}), "plan: no leaf 'head'; must be one"),
    (lambda: cj.search.Limits(), "max_bytes, max_latency_ms, max_drop: give at least one"),
    (lambda: cj.search.Limits(max_bytes=-1), "max_bytes=-1: must be None, or from 0")])
def test_bad_numbers_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()

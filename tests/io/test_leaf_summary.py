"""Summaries of leaves: they add up to the sizes, and a manifest keeps them."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from compress_jax.io import leaf_summary
from compress_jax.io.structure import describe

KEYS = jax.random.split(jax.random.key(0, impl="rbg"), 2)
PARAMS = {"kernel": jax.random.normal(KEYS[0], (3, 3, 4, 8)), "bias": jnp.arange(8.0),
          "out": jax.random.normal(KEYS[1], (16, 12))}
TREES = {
    "dense": lambda: PARAMS,
    "masked": lambda: cj.prune.magnitude(PARAMS, 0.7),
    "quantized": lambda: cj.quantize.affine(cj.prune.magnitude(PARAMS, 0.7), 5),
    "frozen": lambda: cj.freeze(cj.quantize.affine(PARAMS, 8, symmetric=False)),
    "blocks": lambda: cj.prune.block(PARAMS, 0.5, block=(4, 4)),
    "low rank": lambda: cj.prune.magnitude(cj.factorize.svd(PARAMS, rank=3, where="out"), 0.5),
    "narrow": lambda: cj.quantize.cast(PARAMS, "bfloat16"),
}


@pytest.mark.parametrize("name", TREES)
def test_leaves_add_up_to_the_sizes_and_the_sparsity(name):
  tree = TREES[name]()
  leaves, size = leaf_summary.summarize(tree, gzip=True), cj.size(tree)
  for field in ("dense_bytes", "nonzero_bytes", "packed_bytes"):
    assert leaf_summary.total([getattr(x, field) for x in leaves]) == getattr(size, field[:-6])
  params, nonzero = cj.count(tree)
  assert (sum(x.params for x in leaves), sum(x.nonzero for x in leaves)) == (params, nonzero)
  known = cj.metrics.sparsity(tree)
  for leaf in leaves:
    assert leaf.gzip_bytes > 0
    if leaf.path in known:  # factors are listed one by one there
      assert leaf.sparsity == pytest.approx(known[leaf.path])


@pytest.mark.parametrize("name", TREES)
def test_an_outline_says_the_same_as_far_as_it_knows(name):
  tree = TREES[name]()
  outlined = leaf_summary.outline(describe(tree)[0])
  for short, full in zip(outlined, leaf_summary.summarize(tree), strict=True):
    assert leaf_summary.to_json(short).items() <= leaf_summary.to_json(full).items()
    assert leaf_summary.from_json(json.loads(json.dumps(leaf_summary.to_json(full)))) == full


def test_what_a_leaf_is():
  by_path = lambda tree: {x.path: x for x in leaf_summary.summarize(tree)}
  quantized = by_path(TREES["quantized"]())["out"]
  assert (quantized.kind, quantized.bits) == ("FakeQuant > Masked", 5)
  assert 0 < quantized.scale_min <= quantized.scale_max
  blocks = by_path(TREES["blocks"]())["out"]
  assert blocks.block == (4, 4) and blocks.block_sparsity == blocks.sparsity
  # What is stored, before and after deployment.
  deployed = by_path(cj.freeze(TREES["quantized"]()))["out"]
  assert (quantized.dtype, deployed.dtype) == ("float32", "int8")
  assert deployed.dense_bytes == quantized.dense_bytes == 4 * 16 * 12
  low = by_path(TREES["low rank"]())["out"]
  assert low.kind == "LowRank > Masked" and low.rank == (3,) and low.params == 3 * (16 + 12)


def test_a_stack_of_leaves_is_outlined_and_saved(tmp_path):
  per_layer = jax.vmap(lambda w, bits: cj.quantize.affine({"w": w}, bits))
  # Of different bits it is no single deployed leaf.
  stacked = per_layer(jnp.ones((2, 3, 4)), jnp.array([4, 8]))
  assert leaf_summary.summarize(stacked)[0].sparsity is None
  shown = cj.summary(stacked)
  assert (shown.params, shown.nonzero, shown.packed_bytes) == (24, None, None)
  assert str(shown).endswith("total: 24 parameters, – not zero, – bytes packed")
  same = cj.summary(per_layer(jnp.ones((2, 3, 4)), jnp.array([8, 8])))
  assert (same.params, same.nonzero, same.packed_bytes) == (24, 24, 24 + 2 * 4 * 4)
  # Nor is one that shares a scalar in each slice.
  by_hand = jax.vmap(lambda w: cj.FakeQuant(w, jnp.float32(0.1), None, jnp.int32(8)))
  assert leaf_summary.summarize({"w": by_hand(jnp.ones((2, 3, 4)))})[0].sparsity is None
  cj.checkpoint.save(tmp_path / "step", stacked)
  assert cj.checkpoint.read_manifest(tmp_path / "step")["summary"][0]["kind"] == "FakeQuant"


def test_numbers_that_json_has_not_are_left_out():
  tree = cj.quantize.affine({"w": jnp.ones((2, 2))}, 8)
  leaf = cj.FakeQuant(tree["w"].value, tree["w"].scale * jnp.inf, None, tree["w"].bits)
  found = leaf_summary.summarize({"w": leaf, "e": jnp.zeros((0, 2))})
  empty, quantized = [leaf_summary.to_json(x) for x in found]
  json.dumps([empty, quantized], allow_nan=False)
  assert "scale_max" not in quantized and quantized["bits"] == 8
  assert "sparsity" not in empty


def test_numbers_that_are_none_are_counted():
  tree = {"w": jnp.array([[jnp.nan, jnp.inf], [0.0, 1.0]]), "n": jnp.arange(3),
          "half": jnp.full(2, jnp.nan, jnp.bfloat16),
          "q": cj.freeze(cj.quantize.affine({"q": jnp.eye(2)}, 4))["q"].replace(
              scale=jnp.full((1, 2), jnp.nan))}
  assert {x.path: x.nonfinite for x in leaf_summary.summarize(tree)} == {
      "w": 2, "n": 0, "half": 2, "q": 4}
  # Version 0.8 did not count them.
  entry = leaf_summary.to_json(leaf_summary.summarize(tree)[0])
  del entry["nonfinite"]
  assert leaf_summary.from_json(entry).nonfinite is None


def test_factors_of_several_precisions():
  low = cj.factorize.svd({"w": jax.random.normal(KEYS[0], (16, 12))}, rank=3)["w"]
  mixed = low.replace(u=cj.quantize.affine({"u": low.u}, 2)["u"],
                      v=cj.quantize.affine({"v": low.v}, 8)["v"])
  same = cj.quantize.affine({"w": low}, 4)["w"]
  found = leaf_summary.summarize([mixed, same])
  assert [(x.bits, x.factor_bits) for x in found] == [(2, (2, 8)), (4, None)]


def test_few_bytes_that_stand_for_many_are_not_measured():
  blocks = jnp.zeros((1024, 64, 64))  # a file of some hundred bytes holds them
  counts = (1024,) + (0,) * 4095
  leaf = cj.BlockSparse.from_dense(jnp.ones((64, 64)), block=(64, 64)).replace(
      blocks=blocks, rows=jnp.arange(1024, dtype=jnp.int32), dims=(1024 * 64, 4096 * 64),
      counts=counts, row_counts=(1,) * 1024)
  assert leaf.size * 4 == 2**36 and leaf_summary.too_large(leaf)
  # What fills its memory is measured at any size.
  huge = [np.broadcast_to(np.zeros((), dtype), (1 << 16, 1 << 16)) for dtype in ("f4", bool)]
  assert not leaf_summary.too_large(cj.Masked(*huge))

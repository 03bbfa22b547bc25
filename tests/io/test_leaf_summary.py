"""Summaries of leaves: they add up to the sizes, and a manifest keeps them."""

import json

import jax
import jax.numpy as jnp
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
  stacked = jax.vmap(lambda w: cj.quantize.affine({"w": w}, 8))(jnp.ones((2, 3, 4)))
  assert leaf_summary.summarize(stacked)[0].sparsity is None
  shown = cj.summary(stacked)
  assert (shown.params, shown.nonzero, shown.packed_bytes) == (24, None, None)
  assert str(shown).endswith("total: 24 parameters, – not zero, – bytes packed")
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

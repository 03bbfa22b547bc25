"""Trees that could not have been written."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax.io import validation
from compress_jax.io.structure import describe

BLOCKS = cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
TALL = cj.BlockSparse.from_dense(jnp.ones((4, 2)), block=(2, 2))
QUANTIZED = cj.freeze(cj.quantize.affine({"w": jnp.ones((2, 2))}, 4))["w"]
MASKED = cj.prune.magnitude({"w": jnp.eye(2)}, 0.5)["w"]
CLUSTERED = cj.quantize.cluster({"w": jnp.arange(4.0).reshape(2, 2)}, 2)["w"]
FAKE = cj.quantize.affine({"w": jnp.ones((4, 2))}, 4, group=2, symmetric=False)["w"]
FACTORS = cj.factorize.svd({"w": jnp.eye(3)}, rank=2)["w"]
KERNEL = {"w": jnp.ones((3, 3, 4, 6))}
TUCKER = cj.factorize.tucker2(KERNEL, rank=(2, 3))["w"]
SPATIAL = cj.factorize.spatial(KERNEL, rank=2)["w"]
FLOAT = cj.freeze(cj.quantize.cast({"w": jnp.eye(2)}, "float8_e4m3fn"))["w"]
GRID = cj.quantize.dynamic({"w": QUANTIZED})["w"]

BROKEN = [
    (BLOCKS.replace(counts=(10**12, 1)), "BlockSparse.counts: .* sum to 1000000000001; must be"),
    (BLOCKS.replace(counts=(3, -1)), "BlockSparse.counts: 2 numbers from -1"),
    (BLOCKS.replace(counts=(2,)), "BlockSparse.counts: 1 numbers .*must be 2 numbers"),
    (BLOCKS.replace(row_counts=(2, 0)), "BlockSparse.row_counts: must be how often"),
    (BLOCKS.replace(rows=jnp.array([0, 7], jnp.int32)), "BlockSparse.rows: holds 0 to 7; must be"),
    (BLOCKS.replace(rows=jnp.array([0], jnp.int32)), "BlockSparse.rows: shape"),
    (TALL.replace(rows=jnp.array([1, 1], jnp.int32)), "BlockSparse.rows: repeated within a column"),
    (TALL.replace(rows=jnp.array([1, 0], jnp.int32)), "BlockSparse.rows: unsorted within a column"),
    (BLOCKS.replace(blocks=BLOCKS.blocks[0]), "BlockSparse: blocks of shape"),
    (BLOCKS.replace(scale=jnp.ones(3)), r"BlockSparse.scale: shape \(3,\); must be \(1,\) or \(4,"),
    (BLOCKS.replace(dense_dtype=3), "BlockSparse.dense_dtype: 3; must be str"),
    (BLOCKS.replace(dense_dtype="int8"), "BlockSparse.dense_dtype: 'int8'; must be a floating"),
    (BLOCKS.replace(dims=(4.0, 4)), "BlockSparse.dims: .*; must be tuple"),
    (QUANTIZED.replace(bits="8"), "Quantized.bits: '8'; must be int"),
    (QUANTIZED.replace(bits=True), "Quantized.bits: True; must be int"),
    (QUANTIZED.replace(bits=40), "Quantized.bits: holds 40 to 40; must be from 1 to 16"),
    (QUANTIZED.replace(bits=3), "Quantized.integers: holds 7 to 7; must be from -4 to 3"),
    (QUANTIZED.replace(scale={}), "Quantized.scale: a dict; must be an array or a leaf"),
    (QUANTIZED.replace(scale=jnp.ones((1, 3))), r"Quantized.scale: shape \(1, 3\); must be"),
    (QUANTIZED.replace(zero_point=jnp.ones((1, 2))), "Quantized.zero_point: float32; must be int"),
    (GRID.replace(input=GRID.input.replace(bits=jnp.int32(1))), "Dynamic.bits: holds 1 to 1"),
    (MASKED.replace(mask=jnp.ones(3, bool)), r"Masked.mask: bool \(3,\); must be bool \(2, 2\)"),
    (MASKED.replace(mask=jnp.ones((2, 2))), r"Masked.mask: float32 \(2, 2\); must be bool"),
    (MASKED.replace(block=(0, 2)), r"Masked.block: \(0, 2\); must be two whole numbers from 1"),
    (CLUSTERED.replace(index=CLUSTERED.index + 2), "Clustered.index: holds 2 to 3; must be from 0"),
    (CLUSTERED.replace(index=CLUSTERED.index.astype(jnp.int8)), "Clustered.index: int8; must be"),
    (CLUSTERED.replace(codebook=jnp.zeros(0)), r"Clustered.codebook: shape \(0,\); must be"),
    (FAKE.replace(scale=jnp.ones((3, 2))), r"FakeQuant.scale: shape \(3, 2\); must be \(\) or"),
    (FAKE.replace(bits=jnp.float32(8)), "FakeQuant.bits: float32; must be integers"),
    (FLOAT.replace(values=jnp.ones((2, 2), jnp.int8)), "Float.values: 'int8'; must be a floating"),
    (FACTORS.replace(v=FACTORS.v[:1]), "LowRank: u has shape .* axis -1 of u must be as long as"),
    (TUCKER.replace(u=TUCKER.u[:, :1]), "Tucker2: u has shape"),
    (SPATIAL.replace(horizontal=SPATIAL.horizontal[:, :, :1]), "Spatial: vertical has shape")]


@pytest.mark.parametrize("leaf, message", BROKEN, ids=range(len(BROKEN)))
def test_broken_leaves_are_refused(leaf, message):
  with pytest.raises(ValueError, match=message):
    validation.check([leaf], {})


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_no_file_of_a_broken_leaf_is_written(number, tmp_path):
  leaf, message = BROKEN[number]
  for write in (cj.artifact.save, cj.checkpoint.save):
    with pytest.raises(ValueError, match="w: " + message):
      write(tmp_path / "file", {"w": leaf})
  assert not list(tmp_path.iterdir())


def test_sound_leaves_pass():
  tree = {"a": BLOCKS, "b": [QUANTIZED, None], "c": (MASKED, CLUSTERED, FAKE, FLOAT, GRID),
          "d": {"low_rank": FACTORS, "tucker": TUCKER, "spatial": SPATIAL}}
  validation.check(tree, json.loads(json.dumps(describe(tree)[0])))


def _without_annotations():
  """A leaf as a module without `from __future__ import annotations` defines it."""
  @cj.node
  class Counted(cj.Leaf):
    value: object
    count: int = cj.static(default=1)
    names: tuple[str, ...] = cj.static(default=())
    shape = property(lambda self: self.value.shape)
    dtype = property(lambda self: self.value.dtype)
  return Counted


def test_static_fields_are_checked_however_they_are_annotated():
  leaf = _without_annotations()(jnp.ones(2))
  validation.leaves({"w": leaf})
  for changes, message in (({"count": 1.5}, "w: Counted.count: 1.5; must be int"),
                           ({"names": (1,)}, "w: Counted.names: .*; must be tuple")):
    with pytest.raises(ValueError, match=message):
      validation.leaves({"w": dataclasses.replace(leaf, **changes)})


def test_a_static_field_that_no_file_keeps_is_refused_when_the_leaf_is_defined():
  with pytest.raises(TypeError, match=r"Odd.extra: a static field of type .*dict.*; must be bool"):
    @cj.node
    class Odd(cj.Leaf):
      extra: dict = cj.static(default=None)


@pytest.mark.parametrize("entry", [
    {"array": "w", "shape": [-1], "dtype": "int8"},
    {"array": "w", "shape": [True], "dtype": "int8"},
    {"array": "w", "shape": [1.5], "dtype": "int8"}, {"array": "w", "shape": 3, "dtype": "int8"},
    {"array": "w", "shape": [1], "dtype": "object"}, {"array": "w", "shape": [1], "dtype": "U9"},
    {"array": "w", "shape": [1], "dtype": 8}, {"array": 3, "shape": [1], "dtype": "int8"}])
def test_arrays_of_no_numbers_are_refused(entry):
  with pytest.raises(ValueError, match="shape|dtype"):
    validation.array_bytes(entry)
  for dtype in ("bool", "int4", "float8_e4m3fn", "float8_e5m2fnuz", "bfloat16", "uint64"):
    assert validation.array_bytes({"array": "w", "shape": [2], "dtype": dtype}) > 0

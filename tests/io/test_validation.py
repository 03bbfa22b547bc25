"""Trees that could not have been written."""

import dataclasses
import json

import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax.io import validation
from compress_jax.io.structure import describe

BLOCKS = cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
QUANTIZED = cj.freeze(cj.quantize.affine({"w": jnp.ones((2, 2))}, 4))["w"]


@pytest.mark.parametrize("leaf, message", [
    (dataclasses.replace(BLOCKS, counts=(10**12, 1)), "1000000000001 blocks"),
    (dataclasses.replace(BLOCKS, counts=(3, -1)), "negative number of blocks"),
    (dataclasses.replace(BLOCKS, counts=(2,)), "in 1 columns"),
    (dataclasses.replace(BLOCKS, rows=jnp.array([0, 7], jnp.int32)), "row 7 of 2"),
    (dataclasses.replace(BLOCKS, of=3), "BlockSparse.of: '3'; may be str"),
    (dataclasses.replace(QUANTIZED, bits="8"), "Quantized.bits: '8'; may be int"),
    (dataclasses.replace(QUANTIZED, scale={}), "Quantized.scale: a dict")])
def test_broken_leaves_are_refused(leaf, message):
  with pytest.raises(ValueError, match=message):
    validation.check([leaf], {})


def test_sound_leaves_pass():
  tree = {"a": BLOCKS, "b": [QUANTIZED, None]}
  validation.check(tree, json.loads(json.dumps(describe(tree)[0])))


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

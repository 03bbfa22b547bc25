"""safetensors: other readers find the deployed arrays, and rebuild the dense ones to the bit."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.flax import load_file as load_bfloat16
from safetensors.numpy import load_file

import compress_jax as cj
from compress_jax.io.structure import rebuild
from tests import transforms


def structure_of(path):
  with safe_open(path, "numpy") as file:
    return json.loads(file.metadata()["compress_jax"])


def rebuilt(path, load=load_file):
  """Returns the tree that a file's metadata and arrays describe."""
  arrays = load(path)
  return rebuild(structure_of(path), lambda entry: jnp.asarray(arrays[entry["array"]]))


def every_leaf():
  """Returns a deployed tree with one of every leaf, factors of integers among them."""
  draw = lambda *shape: jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
  integers = lambda bits, **arguments: cj.freeze(
      cj.quantize.affine({"w": draw(4, 4)}, bits, **arguments))["w"]
  blocks = cj.BlockSparse.from_dense(jnp.tril(draw(4, 4)), (2, 2))
  return cj.freeze({
      "masked": cj.Masked(draw(4, 4), jnp.tri(4, dtype=bool)), "blocks": blocks,
      "integer blocks": cj.BlockSparse.from_dense(
          blocks.dense().astype(jnp.int8), (2, 2), scale=draw(4), bits=8),
      "integers": {"narrow": integers(4, symmetric=False), "wide": integers(16)},
      "float16": cj.Float(draw(3).astype(jnp.float16), None),
      "clusters": cj.Clustered(draw(3), jnp.arange(6, dtype=jnp.uint8) % 3, zero=True),
      "factors": [cj.LowRank(integers(8), draw(4, 2)),
                  cj.Spatial(draw(3, 1, 2, 2), draw(1, 3, 2, 5)),
                  cj.Tucker2(draw(4, 2), draw(3, 3, 2, 2), draw(2, 5))]})


def test_every_leaf_comes_back_to_the_bit(tmp_path):
  path, deployed = tmp_path / "file", every_leaf()
  assert cj.export.safetensors(path, deployed) == path.stat().st_size
  transforms.assert_same(rebuilt(path), deployed)
  assert "factors/0.u.integers" in load_file(path)
  cj.export.safetensors(path, deployed, dense=True)
  transforms.assert_same(rebuilt(path), cj.dense(deployed))


def test_float8_is_written_though_the_numpy_reader_has_none(tmp_path):
  leaf = cj.Float(jnp.ones(2, jnp.float8_e4m3fn), jnp.float32(0.5))
  cj.export.safetensors(tmp_path / "file", {"w": leaf})
  with safe_open(tmp_path / "file", "numpy") as file:
    assert file.get_slice("w.values").get_dtype() == "F8_E4M3"


def test_names_and_arithmetic_that_a_reader_needs(tmp_path):
  params = transforms.params()
  apply = lambda p, x: x @ p["dense"]["kernel"]
  params = cj.quantize.affine(params, 8, symmetric=False, where="dense/kernel")
  deployed = cj.freeze(cj.quantize.calibrate(apply, params, [jnp.ones((2, 16))]))
  cj.export.safetensors(tmp_path / "file", deployed)
  arrays = load_file(tmp_path / "file")
  kernel = "dense/kernel."
  assert sorted(arrays) == ["conv/bias", "conv/kernel"] + [kernel + x for x in (
      "input.bits", "input.scale", "input.zero_point", "integers", "scale", "zero_point")]
  assert arrays[kernel + "integers"].dtype == np.int8
  steps = (arrays[kernel + "integers"] - arrays[kernel + "zero_point"]).astype(np.float32)
  np.testing.assert_array_equal(steps * arrays[kernel + "scale"],
                                deployed["dense"]["kernel"].dense())
  leaf = structure_of(tmp_path / "file")["dict"]["dense"]["dict"]["kernel"]
  assert leaf["leaf"] == "Quantized" and leaf["static"] == {
        "bits": 8, "dense_dtype": "float32", "pruned": False}


def test_bfloat16(tmp_path):
  values = jax.random.normal(jax.random.key(0), (4, 3))
  params = {"cast": cj.freeze(cj.quantize.cast({"w": values}, "bfloat16"))["w"],
            "plain": values.astype(jnp.bfloat16), "scalar": jnp.bfloat16(2)}
  for dense in (False, True):
    cj.export.safetensors(tmp_path / "file", params, dense=dense)
    expected = cj.dense(params) if dense else params
    transforms.assert_same(rebuilt(tmp_path / "file", load_bfloat16), expected)
  assert load_bfloat16(tmp_path / "file")["plain"].dtype == jnp.bfloat16


def test_lists_scalars_and_a_tree_that_is_one_array(tmp_path):
  for params in ([np.arange(3), (np.ones((2, 1)), None)], {"count": 3}, np.ones(2),
                 np.asfortranarray(np.arange(6.0).reshape(2, 3))):
    cj.export.safetensors(tmp_path / "file", params)
    back = jax.tree.leaves(rebuilt(tmp_path / "file"))
    for a, b in zip(back, jax.tree.leaves(params), strict=True):
      np.testing.assert_array_equal(a, b)


def test_errors(tmp_path, monkeypatch):
  path = tmp_path / "file"
  with pytest.raises(ValueError, match="two arrays would be named .*w.integers"):
    cj.export.safetensors(path, cj.quantize.affine({"w": jnp.eye(2)}, 8)
                          | {"w.integers": jnp.ones(2)})
  with pytest.raises(ValueError, match="w: a str cannot be stored"):
    cj.export.safetensors(path, {"w": "text"})
  with pytest.raises(ValueError, match="safetensors cannot store .*int4"):
    cj.export.safetensors(path, {"w": jnp.ones(2, jnp.int4)})
  monkeypatch.setitem(sys.modules, "safetensors", None)
  with pytest.raises(ImportError, match=r"pip install compress_jax\[safetensors\]"):
    cj.export.safetensors(path, {"w": jnp.eye(2)})
  assert not path.exists()


def test_the_formats_own_key_is_refused(tmp_path):
  with pytest.raises(ValueError, match="a key is '__metadata__', which the format keeps"):
    cj.export.safetensors(tmp_path / "file", {"__metadata__": jnp.ones(2)})

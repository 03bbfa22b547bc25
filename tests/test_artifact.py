"""The deployable file: what a fresh process reads, what damage does."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compress_jax as cj


def model(sparsity=0.9):
  w = jax.random.normal(jax.random.key(0), (64, 64))
  return {"w": w, "pruned": cj.prune.magnitude({"w": w}, sparsity)["w"],
          "both": cj.quantize.affine(cj.prune.magnitude({"w": w}, sparsity), 4)["w"],
          "factors": cj.quantize.affine(cj.factorize.svd({"w": w}, rank=2), 8)["w"]}


def test_a_fresh_process_runs_it(tmp_path):
  cj.artifact.save(tmp_path / "m.cjx", model(), classes=64)
  code = """
import sys, compress_jax as cj, jax.numpy as jnp, numpy as np
params, metadata = cj.artifact.load(sys.argv[1])
out = cj.lift(lambda p, x: x @ p["both"] + x @ p["factors"] + x @ p["pruned"])(
    params, jnp.ones((2, metadata["classes"])))
np.save(sys.argv[2], out)
"""
  subprocess.run([sys.executable, "-c", code, tmp_path / "m.cjx", tmp_path / "o.npy"], check=True)
  p, x = cj.dense(model()), jnp.ones((2, 64))
  np.testing.assert_allclose(np.load(tmp_path / "o.npy"),
                             x @ p["both"] + x @ p["factors"] + x @ p["pruned"], atol=1e-4)


def test_pruned_and_narrow_files_are_smaller():
  sizes = {k: cj.size(v).artifact for k, v in model().items()}
  # 10 % of the floats and their mask; then 4 bits each.
  assert sizes["pruned"] < 0.2 * sizes["w"]
  assert sizes["both"] < 0.6 * sizes["pruned"]
  assert cj.size(model()["both"]).packed == 64 * 64 // 2 + 64 * 4


def test_the_old_file_stays_when_a_save_fails(tmp_path):
  path = tmp_path / "m.cjx"
  cj.artifact.save(path, {"w": jnp.ones(3)})
  before = path.read_bytes()
  with pytest.raises(ValueError, match="w: a object cannot be stored"):
    cj.artifact.save(path, {"w": object()})
  assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


DATA = cj.artifact.encode(model(), name="m")


@settings(max_examples=150)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_found(position, flip):
  damaged = bytearray(DATA)
  damaged[position] ^= flip
  with pytest.raises(cj.artifact.ArtifactError):
    cj.artifact.decode(bytes(damaged))


@settings(max_examples=80)
@given(st.integers(0, len(DATA) - 1))
def test_a_cut_is_found(length):
  with pytest.raises(cj.artifact.ArtifactError):
    cj.artifact.decode(DATA[:length])


def test_the_error_names_the_file(tmp_path):
  (tmp_path / "x.cjx").write_bytes(b"something else")
  with pytest.raises(cj.artifact.ArtifactError, match=r"x\.cjx: starts with b'some'"):
    cj.artifact.load(tmp_path / "x.cjx")


def test_any_shape_of_tree_comes_back():
  leaf = cj.prune.magnitude(jnp.arange(4.0).reshape(2, 2), 0.5)
  loaded = cj.artifact.decode(cj.artifact.encode(leaf))[0]
  np.testing.assert_array_equal(loaded.dense(), leaf.dense())
  loaded = cj.artifact.decode(cj.artifact.encode([np.array([2**40]), np.float64(0.1), 0.5]))[0]
  assert loaded[0][0] == 2**40 and loaded[1] == 0.1 and loaded[2] == 0.5
  assert cj.size({"w": jnp.ones(2), "step": 0.1}).dense == 16
  four = {"w": jnp.array([1, -2, 3, -8], jnp.int4)}
  assert cj.size(four).dense == cj.size(four).packed == 2
  np.testing.assert_array_equal(cj.artifact.decode(cj.artifact.encode(four))[0]["w"], four["w"])


@pytest.mark.parametrize("tree", [{0: 1.0}, {"a/b": 1.0}])
def test_ambiguous_keys_are_refused(tree):
  with pytest.raises(ValueError, match="may be a string without '/'"):
    cj.artifact.encode(tree)

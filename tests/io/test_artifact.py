"""The deployable file: what a fresh process reads, what damage does."""

import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.io import container
from tests.io.trees import same


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


@pytest.mark.parametrize("floats, step", [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_floats_are_rounded_by_choice(floats, step):
  params = model() | {"batch": {"scale": jnp.linspace(1, 2, 64)}}
  loaded = cj.artifact.decode(cj.artifact.encode(params, floats=floats))[0]
  frozen = cj.freeze(params)
  np.testing.assert_allclose(loaded["w"], params["w"], rtol=step)
  np.testing.assert_array_equal(loaded["w"], params["w"].astype(floats).astype(jnp.float32))
  assert (loaded["batch"]["scale"] != params["batch"]["scale"]).any()
  # What integers stand for keeps every bit.
  np.testing.assert_array_equal(loaded["both"].dense(), frozen["both"].dense())
  assert len(cj.artifact.encode({"w": params["w"]}, floats=floats)) < 64 * 64 * 2
  with pytest.raises(ValueError, match="must be one of float32, bfloat16, float16"):
    cj.artifact.encode(params, floats="int8")


def test_what_float16_cannot_hold_is_refused():
  with pytest.raises(ValueError, match=r"params/a/0: .* is beyond what float16 holds"):
    cj.artifact.encode({"a": [jnp.array([1e6])]}, floats="float16")
  cj.artifact.encode({"a": jnp.array([jnp.inf, 1.0])}, floats="float16")


def test_progress_counts_bytes(tmp_path):
  cj.artifact.save(tmp_path / "m.cjx", model())
  calls = []
  cj.artifact.load(tmp_path / "m.cjx", progress=lambda done, total: calls.append((done, total)))
  done, total = zip(*calls, strict=True)
  assert sorted(done) == list(done) and done[-1] == total[0] == total[-1] > 64 * 64 * 4


def test_zero_points_are_counted_from():
  w = cj.prune.magnitude({"w": jax.random.normal(jax.random.key(0), (64, 32)) + 1}, 0.9)
  frozen = cj.freeze(cj.quantize.affine(w, 4, symmetric=False, group=2))
  loaded = cj.artifact.decode(cj.artifact.encode(frozen))[0]
  np.testing.assert_array_equal(loaded["w"].integers, frozen["w"].integers)
  header, _ = container.unpack(cj.artifact.encode(frozen))
  assert header["base"] == {"w/integers": "w/zero_point"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch, call, error):
  path = tmp_path / "m.cjx"
  cj.artifact.save(path, {"w": jnp.ones(3)})
  before = path.read_bytes()
  def stop(*args):
    raise error
  monkeypatch.setattr(cj.artifact.os, call, stop)
  with pytest.raises(error):
    cj.artifact.save(path, {"w": jnp.zeros(3)})
  assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_metadata_is_what_json_holds_and_numbers_of_arrays():
  given = {"accuracy": jnp.float32(0.5), "epochs": np.int64(3), "shape": (3, 2), "of": {"a": None}}
  found = cj.artifact.decode(cj.artifact.encode({"w": jnp.ones(2)}, **given))[1]
  assert found == {"accuracy": 0.5, "epochs": 3, "shape": [3, 2], "of": {"a": None}}
  for bad, message in (({"x": jnp.ones(2)}, "metadata.x: a ArrayImpl; must be a number"),
                       ({"x": [{1: "one"}]}, r"metadata.x\[0\]: key 1: must be a text")):
    with pytest.raises(ValueError, match=message):
      cj.artifact.encode({"w": jnp.ones(2)}, **bad)


@cj.node
class Kept(cj.Leaf):
  """A leaf of a user's own that stores only what its mask keeps."""

  value: object
  mask: object

  shape = property(lambda self: self.value.shape)
  dtype = property(lambda self: self.value.dtype)

  def dense(self):
    return jnp.where(self.mask, self.value, 0)

  def freeze(self):
    return self

  def payload(self):
    return {"value": cj.Payload(self.value, 32, keep="mask"),
            "mask": cj.Payload(self.mask, 1, structure=True)}


def test_numbers_that_would_not_come_back_are_refused():
  value, mask = jnp.arange(1.0, 5).reshape(2, 2), jnp.eye(2, dtype=bool)
  with pytest.raises(ValueError, match="w/value: its payload keeps some elements, and others"):
    cj.artifact.encode({"w": Kept(value, mask)})
  loaded = cj.artifact.decode(cj.artifact.encode({"w": Kept(value * mask, mask)}))[0]
  np.testing.assert_array_equal(loaded["w"].value, value * mask)
  with pytest.raises(ValueError, match="w/value: its payload keeps some elements, and others"):
    cj.artifact.encode({"w": Kept(jnp.where(mask, value, jnp.nan), mask)})
  with pytest.raises(ValueError, match="w: complex128; must be a dtype of at most 8 bytes"):
    cj.artifact.encode({"w": np.ones(2, complex)})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn", "complex64"])
def test_zeros_with_a_sign_are_zeros_outside_of_the_mask(dtype):
  mask = np.eye(3, dtype=bool)
  value = np.full((3, 3), -0.0, dtype)
  value[2, 2] = -1
  assert np.signbit(value.astype(np.complex64).real).all()  # what it is about
  found = cj.artifact.decode(cj.artifact.encode({"w": Kept(value, mask)}))[0]["w"]
  same({"mask": found.mask, "value": found.value}, {
      "mask": jnp.asarray(mask), "value": jnp.where(mask, value, 0).astype(dtype)})


def test_a_directory_is_no_artifact(tmp_path):
  with pytest.raises(cj.artifact.ArtifactError, match="a directory; must be a file"):
    cj.artifact.load(tmp_path)


def test_another_kind_of_file_is_refused_by_its_first_bytes(tmp_path):
  with (tmp_path / "disk.img").open("wb") as file:
    file.truncate(2**42)  # takes no room on the disk, and no memory holds it
  with pytest.raises(cj.artifact.ArtifactError, match=r"disk\.img: starts with b'\\x00"):
    cj.artifact.load(tmp_path / "disk.img")


def test_a_pipe_is_read(tmp_path):
  os.mkfifo(tmp_path / "pipe")
  data = cj.artifact.encode({"w": jnp.ones(2)})

  def write():
    with (tmp_path / "pipe").open("wb", buffering=0) as file:
      for byte in data:  # one by one, as a slow connection gives them
        file.write(bytes([byte]))
  writer = threading.Thread(target=write)
  writer.start()
  assert cj.artifact.load(tmp_path / "pipe")[0]["w"].tolist() == [1.0, 1.0]
  writer.join()

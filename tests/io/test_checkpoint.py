"""Checkpoints: what damage does, and that saving is all or nothing."""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compress_jax as cj
import compress_jax.inspect
from compress_jax.io import manifest
from tests.transforms import TRANSFORMS, assert_same, params


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / "step"
  cj.checkpoint.save(path, cj.quantize.affine({"w": jnp.arange(4096.0).reshape(64, 64)}, 8), n=1)
  return path


def test_every_kind_of_container_returns(tmp_path):
  tree = {"a": [jnp.ones(2), (jnp.zeros((0, 3)), None)], "b": {"c": jnp.int8(3)}, "d": {}}
  cj.checkpoint.save(tmp_path / "t", tree)
  loaded, _ = cj.checkpoint.load(tmp_path / "t")
  assert loaded["a"][1][1] is None and loaded["d"] == {} and loaded["b"]["c"].dtype == jnp.int8
  assert isinstance(loaded["a"][1], tuple) and loaded["a"][1][0].shape == (0, 3)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_an_optimizers_state_of_compressed_leaves_returns(name, tmp_path):
  tree = TRANSFORMS[name](params())
  trainable, rest = cj.partition(tree)
  state = {"params": tree, "optimizer": cj.optimize(optax.adam(1e-3)).init(tree),
           "halves": (trainable, rest)}
  cj.checkpoint.save(tmp_path / "step", state)
  again, _ = cj.checkpoint.load(tmp_path / "step", like=state)
  assert_same(again, state)
  assert cj.checkpoint.check(tmp_path / "step") == []
  # Inspection has a row for each leaf of the model, and for each array of a half.
  paths = {leaf.path for leaf in compress_jax.inspect.read(tmp_path / "step").leaves}
  assert {f"params/{path}" for path, _ in cj.entries(tree)[0]} < paths
  with pytest.raises(ValueError, match="half of a leaf; `merge` puts together"):
    cj.artifact.save(tmp_path / "model.cjx", rest)


def test_replacing_keeps_one(saved):
  cj.checkpoint.save(saved, {"w": jnp.zeros(1)}, n=2)
  assert cj.checkpoint.load(saved)[1] == {"n": 2}
  assert [p.name for p in saved.parent.iterdir()] == ["step"]


def test_a_changed_byte_is_found(saved):
  largest = max((saved / "arrays").rglob("*"), key=lambda p: p.stat().st_size)
  data = bytearray(largest.read_bytes())
  data[len(data) // 2] ^= 1
  largest.write_bytes(data)
  with pytest.raises(cj.checkpoint.CheckpointError, match="arrays.*(checksum|cannot be read)"):
    cj.checkpoint.load(saved)


def test_a_leaf_type_is_checked(saved):
  file = saved / "manifest.json"
  known = json.loads(file.read_text())
  known["structure"]["dict"]["w"]["leaf"] = "Nonsense"
  del known["checksum"]
  file.write_text(json.dumps(known))
  with pytest.raises(ValueError, match="leaf type 'Nonsense': must be one of.*FakeQuant"):
    cj.checkpoint.load(saved)


@pytest.mark.parametrize("name", ["array", "shape", "dtype"])
def test_an_array_that_lost_a_part_of_its_description_is_found(saved, name):
  manifest = saved / "manifest.json"
  # As an earlier version wrote it, without a checksum of its own.
  text = re.sub(r', "checksum": \d+', "", manifest.read_text())
  manifest.write_text(text.replace(f'"{name}"', f'"{name}s"', 1))
  for reads in (cj.checkpoint.load, cj.checkpoint.check):
    with pytest.raises(cj.checkpoint.CheckpointError, match=r"manifest\.json: cannot be read"):
      reads(saved)


def test_every_file_cut_short_is_found(saved, tmp_path):
  files = [p for p in saved.rglob("*") if p.is_file() and p.stat().st_size > 1]
  for number, file in enumerate(files):
    copy = tmp_path / f"copy{number}"
    shutil.copytree(saved, copy)
    cut = copy / file.relative_to(saved)
    cut.write_bytes(cut.read_bytes()[:cut.stat().st_size // 2])
    with pytest.raises(cj.checkpoint.CheckpointError, match=str(copy)):
      cj.checkpoint.load(copy)


def test_what_is_not_there_is_named(tmp_path):
  with pytest.raises(cj.checkpoint.CheckpointError, match=r"nothing/manifest\.json: is missing"):
    cj.checkpoint.load(tmp_path / "nothing")


def test_an_interrupted_replacement_leaves_the_old_one(saved, monkeypatch):
  import os
  rename, calls = os.rename, []
  def killed(a, b):
    calls.append(b)
    if len(calls) == 2:
      raise KeyboardInterrupt
    rename(a, b)
  monkeypatch.setattr(os, "rename", killed)
  with pytest.raises(KeyboardInterrupt):
    cj.checkpoint.save(saved, {"w": jnp.zeros(1)}, n=2)
  monkeypatch.undo()
  assert cj.checkpoint.load(saved)[1] == {"n": 1}
  cj.checkpoint.save(saved, {"w": jnp.zeros(1)}, n=3)
  assert cj.checkpoint.load(saved)[1] == {"n": 3}


def test_what_is_saved_in_the_background_is_what_was_given(tmp_path):
  tree = {"w": np.arange(2.0**20, dtype=np.float32), "key": jax.random.key(3),
          "m": cj.prune.magnitude({"w": jnp.arange(64.0).reshape(8, 8)}, 0.5)}
  history = [1]
  given = {**tree, "donated": jnp.arange(5.0)}
  saving = cj.checkpoint.save_async(tmp_path / "step", given, history=history)
  # All of this is before the last array is on disk, or may be.
  history.append(2)
  tree["w"][:] = 0
  jax.jit(lambda x: x + 1, donate_argnums=0)(given["donated"])
  saving.result()
  found, metadata = cj.checkpoint.load(tmp_path / "step")
  assert metadata == {"history": [1]}
  np.testing.assert_array_equal(found["w"], np.arange(2.0**20, dtype=np.float32))
  np.testing.assert_array_equal(found["donated"], np.arange(5.0))
  assert (jax.random.key_data(found["key"]) == jax.random.key_data(tree["key"])).all()
  assert found["m"]["w"].weight_mask().sum() == 32
  assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_what_cannot_be_saved_in_the_background_is_told(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="metadata.number: a set; must be a number"):
    cj.checkpoint.save_async(tmp_path / "step", {"w": jnp.ones(2)}, number={1, 2})
  def fails(*args):
    raise OSError("no such disk")
  monkeypatch.setattr(manifest, "_file_sizes", fails)
  with pytest.raises(OSError, match="no such disk"):
    cj.checkpoint.save_async(tmp_path / "step", {"w": jnp.ones(2)}).result()
  assert not list(tmp_path.iterdir())


def test_a_manifest_that_was_changed_is_refused(tmp_path):
  leaf = cj.Clustered(jnp.array([0.7, 1.0, 2.0]), jnp.array([[0, 0, 1, 2]], jnp.uint8), zero=True)
  cj.checkpoint.save(tmp_path / "step", {"w": leaf}, epoch=3)
  manifest = tmp_path / "step" / "manifest.json"
  whole = manifest.read_text()
  for old, new in (('"zero": true', '"zero": false'), ('"epoch": 3', '"epoch": 9')):
    manifest.write_text(whole.replace(old, new))
    for reads in (cj.checkpoint.load, cj.checkpoint.check):
      with pytest.raises(cj.checkpoint.CheckpointError, match="manifest.json: fails its checksum"):
        reads(tmp_path / "step")
  # Laid out in another way it says the same.
  manifest.write_text(json.dumps(json.loads(whole), indent=1))
  assert cj.checkpoint.load(tmp_path / "step")[1] == {"epoch": 3}


def test_nothing_that_is_no_checkpoint_is_removed(saved, tmp_path):
  backup, folder = saved.with_name("step.old"), tmp_path / "project"
  for path in (backup, folder):
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
  cj.checkpoint.save(saved, {"w": jnp.zeros(1)})
  with pytest.raises(ValueError, match="project: holds something that is not a checkpoint; must"):
    cj.checkpoint.save(folder, {"w": jnp.zeros(1)})
  assert all((path / "thesis.tex").read_text() == "precious" for path in (backup, folder))


def test_what_a_link_points_to_is_replaced(saved, tmp_path):
  link = tmp_path / "latest"
  link.symlink_to(saved)
  for n in (1, 2):
    cj.checkpoint.save(link, {"w": jnp.zeros(1)}, n=n)
    assert link.is_symlink() and cj.checkpoint.load(saved)[1] == {"n": n}
  assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "step"]


def test_a_save_between_its_two_renames_loses_nothing(saved):
  saved.rename(saved.with_name("step.replaced-0123abcd"))
  assert cj.checkpoint.load(saved)[1] == {"n": 1}
  cj.checkpoint.save(saved, {"w": jnp.zeros(1)}, n=2)
  assert [path.name for path in saved.parent.iterdir()] == ["step"]


def test_a_dicts_order_is_kept_while_the_program_goes_on(tmp_path):
  tree = {"z": jnp.ones(2), "a": cj.prune.magnitude({"y": jnp.eye(2), "b": jnp.eye(2)}, 0.5)}
  cj.checkpoint.save_async(tmp_path / "step", tree).result()
  loaded = cj.checkpoint.load(tmp_path / "step")[0]
  assert list(loaded) == ["z", "a"] and list(loaded["a"]) == list(tree["a"])

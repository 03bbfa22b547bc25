"""What a checkpoint may take the place of, and when what it replaces is removed."""

import json
import os
import shutil

import jax.numpy as jnp
import pytest

import compress_jax as cj

NEW = {"w": jnp.zeros(1)}
EXTENSION = {"manifest.json": json.dumps({"manifest_version": 3, "name": "reader"}),
             "src/thesis.tex": "precious"}


def written(path, files):
  """Returns a folder with these files."""
  for name, text in files.items():
    file = path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
  return path


def contents(path):
  return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def saved(tmp_path):
  path = tmp_path / "step"
  cj.checkpoint.save(path, {"w": jnp.arange(4.0)}, n=1)
  return path


@pytest.mark.parametrize("files", [
    EXTENSION, {"manifest.json": EXTENSION["manifest.json"]}, {"manifest.json": "// no JSON\n{}"},
    {"manifest.json": "[1]"}, {"manifest.json/notes.txt": "precious"}, {"arrays/a.npy": "precious"},
    {"arrays/a.npy": "precious", "manifest.json": "{}"}], ids=str)
@pytest.mark.parametrize("suffix", ["", ".replaced-0123abcd"])
def test_a_folder_with_a_manifest_of_another_kind_stays(files, suffix, tmp_path):
  written(tmp_path / f"step{suffix}", files)
  before = contents(tmp_path)
  if suffix:
    cj.checkpoint.save(tmp_path / "step", NEW)
  else:
    for save in (cj.checkpoint.save, cj.checkpoint.save_async):
      with pytest.raises(ValueError, match="step: holds something that is not a checkpoint; must"):
        save(tmp_path / "step", NEW)
  assert before.items() <= contents(tmp_path).items()


def test_notes_within_a_checkpoint_stay(saved):
  (saved / "notes.txt").write_text("precious")
  with pytest.raises(ValueError, match="step: holds something that is not a checkpoint; must"):
    cj.checkpoint.save(saved, NEW)
  assert (saved / "notes.txt").read_text() == "precious"
  assert cj.checkpoint.load(saved)[1] == {"n": 1}


def test_notes_in_what_an_interrupted_save_left_stay(saved):
  left = saved.rename(saved.with_name("step.replaced-0123abcd"))
  (left / "notes.txt").write_text("precious")
  assert cj.checkpoint.load(saved)[1] == {"n": 1}
  cj.checkpoint.save(saved, NEW, n=2)
  assert (left / "notes.txt").read_text() == "precious" and cj.checkpoint.load(saved)[1] == {"n": 2}


def _cut(path):
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


DAMAGES = {
    "a manifest cut short": lambda path: _cut(path / "manifest.json"),
    "an empty manifest": lambda path: (path / "manifest.json").write_text(""),
    "a changed manifest": lambda path: (path / "manifest.json").write_text("x"),
    "no manifest": lambda path: (path / "manifest.json").unlink(),
    "no arrays": lambda path: shutil.rmtree(path / "arrays"),
    "neither": lambda path: (shutil.rmtree(path / "arrays"), _cut(path / "manifest.json"))}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_replaced(damage, saved):
  damage(saved)
  cj.checkpoint.save(saved, NEW, n=2)
  assert cj.checkpoint.load(saved)[1] == {"n": 2}
  assert [path.name for path in saved.parent.iterdir()] == ["step"]


def test_an_empty_folder_is_replaced(tmp_path):
  (tmp_path / "step").mkdir()
  cj.checkpoint.save(tmp_path / "step", NEW)
  assert [path.name for path in tmp_path.iterdir()] == ["step"]


def test_the_new_one_is_on_the_disk_before_the_old_one_is_removed(saved, monkeypatch):
  events = []

  def traced(name, call, key):
    def wrapper(*args, **options):
      events.append((name, *map(key, args)))
      return call(*args, **options)
    return wrapper
  inode = lambda fd: os.fstat(fd).st_ino
  monkeypatch.setattr(os, "fsync", traced("sync", os.fsync, inode))
  monkeypatch.setattr(os, "rename", traced("rename", os.rename, os.path.basename))
  monkeypatch.setattr(shutil, "rmtree", traced("remove", shutil.rmtree, os.path.basename))
  cj.checkpoint.save(saved, {"w": jnp.arange(9.0)}, n=2)
  monkeypatch.undo()

  place = next(at for at, event in enumerate(events) if event[::2] == ("rename", "step"))
  removed = next(at for at, event in enumerate(events) if event[0] == "remove" and at > place)
  assert events[removed][1].startswith("step.replaced-")
  synced = {event[1] for event in events[:place] if event[0] == "sync"}
  assert {path.stat().st_ino for path in (saved, *saved.rglob("*"))} <= synced
  assert ("sync", saved.parent.stat().st_ino) in events[place:removed]

"""What a checkpoint may take the place of, and when what it replaces is removed."""

import json
import os
import shutil
import threading
from pathlib import Path

import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax import inspect
from compress_jax.io import orbax_arrays

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


@pytest.mark.parametrize("name", [".DS_Store", "._manifest.json", "Thumbs.db", "desktop.ini"])
def test_what_a_desktop_leaves_in_folders_is_no_users(name, saved, tmp_path):
  (tmp_path / "empty").mkdir()
  for path in (saved, tmp_path / "empty"):
    (path / name).write_bytes(b"\0")
    cj.checkpoint.save(path, NEW, n=2)
    assert cj.checkpoint.load(path)[1] == {"n": 2} and not (path / name).exists()
  # Nothing is left beside them, either.
  assert {path.name for path in tmp_path.iterdir()} == {"step", "empty"}


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


READERS = {
    "load": lambda path: cj.checkpoint.load(path)[1]["n"],
    "read_manifest": lambda path: cj.checkpoint.read_manifest(path)["metadata"]["n"],
    "overview": lambda path: cj.checkpoint.overview(path)[0]["metadata"]["n"],
    "check": lambda path: _sound(cj.checkpoint.check(path)),
    "inspect": lambda path: _sound(inspect.check(inspect.read(path)).failures),
    "exists": lambda path: int(cj.checkpoint.exists(path))}


def _sound(problems):
  assert not problems
  return 1


@pytest.mark.parametrize("name", ["load", "check", "inspect"])
def test_what_is_read_while_it_is_replaced_is_the_old_or_the_new_one(name, saved, monkeypatch):
  load, times = orbax_arrays.load, [0, 0, 0]

  def late(path):  # after the manifest was read
    if times:
      times.pop()
      cj.checkpoint.save(saved, {"v": jnp.ones(3 + len(times))}, n=1)
    return load(path)
  monkeypatch.setattr(orbax_arrays, "load", late)
  assert READERS[name](saved) == 1 and not times


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_between_the_two_renames_is_the_old_one(name, saved, monkeypatch):
  rename, seen = os.rename, []

  def between(old, new):
    rename(old, new)
    if not saved.exists():
      seen.append(READERS[name](saved))
  monkeypatch.setattr(os, "rename", between)
  cj.checkpoint.save(saved, NEW, n=2)
  assert seen == [1]


@pytest.mark.parametrize("name", READERS)
def test_a_checkpoint_that_a_killed_program_left_between_two_renames_is_found(name, saved):
  (saved.parent / "link").symlink_to(saved)
  saved.rename(saved.with_name("step.replaced-0123abcd"))
  assert READERS[name](saved) == READERS[name](saved.parent / "link") == 1


def test_readers_beside_a_program_that_saves_find_no_damage(saved):
  done = threading.Event()

  def save():
    for n in range(12):
      cj.checkpoint.save(saved, {f"w{n}": jnp.full(n + 1, n)}, n=1)
    done.set()
  thread = threading.Thread(target=save)
  thread.start()
  try:
    while not done.is_set():
      for name, read in READERS.items():
        assert read(saved) == 1, name
  finally:
    thread.join()


def test_damage_that_stays_is_reported_at_once(saved, monkeypatch):
  reads, load = [], orbax_arrays.load
  monkeypatch.setattr(orbax_arrays, "load", lambda path: reads.append(path) or load(path))
  for file in filter(Path.is_file, (saved / "arrays").rglob("*")):
    file.write_bytes(b"\xff" * file.stat().st_size)
  with pytest.raises(cj.checkpoint.CheckpointError, match="step/arrays"):
    cj.checkpoint.load(saved)
  assert cj.checkpoint.check(saved) and len(reads) == 2


def test_only_what_could_be_loaded_exists(saved, tmp_path):
  (tmp_path / "empty").mkdir()
  written(tmp_path / "other", {"notes.txt": "precious"})
  assert not any(cj.checkpoint.exists(tmp_path / name) for name in ("empty", "other", "nothing"))
  (saved / "manifest.json").unlink()
  assert cj.checkpoint.exists(saved)  # damaged: `load` says so

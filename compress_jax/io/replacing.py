"""How one checkpoint's directory takes the place of another, and nothing else's."""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from compress_jax.io import files, orbax_arrays

MANIFEST, ARRAYS = "manifest.json", "arrays"
_READS = 20  # of one checkpoint, each after another one took its place
_BEGINNING = b'{"format":'  # of every manifest
# What macOS and Windows leave in folders that somebody looked at.
_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}

Read = TypeVar("Read")


def check(path: Path) -> None:
  """Refuses a path at which something lies that is no checkpoint.

  Args:
    path: where a checkpoint is about to be written.

  Raises:
    ValueError: what lies there is not new, not empty and no checkpoint.

  Example:
    >>> import tempfile
    >>> check(Path(tempfile.mkdtemp()))
  """
  if not path.exists() or is_ours(path):
    return
  if not path.is_dir() or _names(path):
    raise ValueError(f"{path}: holds something that is not a checkpoint; must be new, empty, or a "
                     "checkpoint that is replaced")


def is_ours(path: Path) -> bool:
  """Returns whether a directory is a checkpoint, maybe a damaged one, and has nothing else in it.

  Args:
    path: the directory.

  Returns:
    True or False; False where there is none.
  """
  # Many kinds of folders have a manifest.json: what a user put in there must not be removed.
  if not path.is_dir() or not _names(path) <= {MANIFEST, ARRAYS}:
    return False
  try:
    text = (path / MANIFEST).read_bytes()
  except OSError:
    return orbax_arrays.looks_like(path / ARRAYS)
  try:
    known = json.loads(text)
  except ValueError:  # cut short, or changed
    return orbax_arrays.looks_like(path / ARRAYS) or _BEGINNING.startswith(text[:len(_BEGINNING)])
  return isinstance(known, dict) and {"format", "structure"} <= known.keys()


def _names(path: Path) -> set[str]:
  """Returns the names in a directory of what a program or a user put there."""
  return {part.name for part in path.iterdir()
          if part.name not in _LITTER and not part.name.startswith("._")}


def replace(new: Path, path: Path) -> None:
  """Puts a complete directory in place; a reader finds the old or the new one at any moment.

  A power cut, too, leaves the old or the new one.

  Args:
    new: the directory, all of which is on the disk.
    path: where it goes.
  """
  if path.exists() and not _names(path):
    shutil.rmtree(path)
  elif path.exists():
    # A name that nobody else gives: a copy that the user keeps beside it stays.
    os.rename(path, path.with_name(f"{path.name}.replaced-{uuid.uuid4().hex[:8]}"))
  os.rename(new, path)
  files.sync_names(path.parent)  # before the old one is gone
  for old in filter(is_ours, _left(path)):
    shutil.rmtree(old, ignore_errors=True)


def current(path: Path) -> Path:
  """Returns where a checkpoint is now: beside its path, where two renames were interrupted.

  Args:
    path: where it was written.

  Returns:
    The path itself where anything is there, or nothing beside it.
  """
  if path.exists():
    return path
  # What a link points to was replaced, and not the link.
  found = [old for old in _left(path.resolve()) if (old / MANIFEST).is_file()]
  return max(found, key=_written, default=path)


def _left(path: Path) -> list[Path]:
  return list(path.parent.glob(f"{glob.escape(path.name)}.replaced-*"))


def _written(path: Path) -> int:
  try:
    return path.stat().st_mtime_ns
  except FileNotFoundError:
    return 0  # removed meanwhile


def is_there(path: Path) -> bool:
  """Returns whether a directory has any part of a checkpoint.

  Args:
    path: the directory, which need not be there.
  """
  return any((path / name).exists() for name in (MANIFEST, ARRAYS))


def steadily(path: Path, read: Callable[[Path], Read],
             sound: Callable[[Read], bool] = lambda found: True) -> Read:
  """Reads a checkpoint, and again where another one took its place meanwhile.

  Args:
    path: where it was written.
    read: called with where it is now.
    sound: whether nothing is wrong with what was read.

  Returns:
    What `read` returned last.
  """
  for left in reversed(range(_READS)):
    # Its files are opened one by one, by their names: some may be the old one's, some the new's.
    before = _identity(path)
    try:
      found = read(before[0])
      if sound(found) or not left or _identity(path) == before:
        return found
    except (OSError, ValueError):
      if not left or _identity(path) == before:
        raise
  raise AssertionError("the last read returns or raises")


def _identity(path: Path) -> tuple[Any, ...]:
  """Returns where a checkpoint is, and what tells it from others that were or will be there."""
  where = current(path)
  try:
    known = where.stat()
  except OSError:
    return where, None
  # The time too: a number that is free again is given to the next directory.
  return where, known.st_dev, known.st_ino, known.st_mtime_ns

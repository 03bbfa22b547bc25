"""How one checkpoint's directory takes the place of another, and nothing else's."""

from __future__ import annotations

import glob
import json
import os
import shutil
import uuid
from pathlib import Path

from compress_jax.io import files, orbax_arrays

MANIFEST, ARRAYS = "manifest.json", "arrays"
_BEGINNING = b'{"format":'  # of every manifest


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
  if not path.is_dir() or any(path.iterdir()):
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
  if not path.is_dir() or not {part.name for part in path.iterdir()} <= {MANIFEST, ARRAYS}:
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


def replace(new: Path, path: Path) -> None:
  """Puts a complete directory in place; a reader finds the old or the new one at any moment.

  A power cut, too, leaves the old or the new one.

  Args:
    new: the directory, all of which is on the disk.
    path: where it goes.
  """
  if path.exists() and not any(path.iterdir()):
    path.rmdir()
  elif path.exists():
    # A name that nobody else gives: a copy that the user keeps beside it stays.
    os.rename(path, path.with_name(f"{path.name}.replaced-{uuid.uuid4().hex[:8]}"))
  os.rename(new, path)
  files.sync_names(path.parent)  # before the old one is gone
  for old in filter(is_ours, _left(path)):
    shutil.rmtree(old, ignore_errors=True)


def aside(path: Path) -> list[Path]:
  """Returns where the checkpoints are whose replacing was interrupted between two renames.

  Args:
    path: where they were.
  """
  return [old for old in _left(path) if (old / MANIFEST).is_file()]


def _left(path: Path) -> list[Path]:
  return list(path.parent.glob(f"{glob.escape(path.name)}.replaced-*"))

"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # of file systems that sync no folders


def write(path: str | os.PathLike[str], data: bytes | str) -> int:
  """Writes a file, all or nothing.

  Args:
    path: the file; replaced once the new one is complete.
    data: its content; text is encoded in UTF-8.

  Returns:
    The file's size in bytes.

  Example:
    >>> import tempfile
    >>> write(tempfile.mkdtemp() + "/file", b"abc")
    3
  """
  path = Path(os.path.realpath(path))  # what a link points to is replaced, and not the link
  content = data.encode() if isinstance(data, str) else data
  # Beside the file: only within one file system is it replaced in one step. A stage that
  # starts again removes what an interrupted one left under such names.
  partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:8]}")
  with partial.open("xb") as file:
    try:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())  # before the name points to it, or a power cut leaves it empty
      if path.exists():
        shutil.copymode(path, partial)  # who could read the file still can, and nobody else
      os.replace(partial, path)
    except BaseException:  # an interrupt, too, leaves nothing behind
      partial.unlink()
      raise
  return len(content)


def sync(folder: Path) -> None:
  """Waits until a folder with all that is in it is on the disk, and a power cut keeps it.

  Args:
    folder: the folder.

  Example:
    >>> import tempfile
    >>> sync(Path(tempfile.mkdtemp()))
  """
  # Names last: a folder that is on the disk has what its names point to.
  for path in sorted(folder.rglob("*"), reverse=True):
    if path.is_dir():
      sync_names(path)
    elif path.is_file():
      with path.open("rb+") as file:  # Windows syncs only what may be written
        os.fsync(file.fileno())
  sync_names(folder)


def sync_names(folder: Path) -> None:
  """Waits until the names in a folder are on the disk: what was made, renamed and removed there.

  Args:
    folder: the folder.

  Example:
    >>> import tempfile
    >>> sync_names(Path(tempfile.mkdtemp()))
  """
  try:
    opened = os.open(folder, os.O_RDONLY)
  except PermissionError:
    return  # Windows opens no folders
  try:
    os.fsync(opened)
  except OSError as error:
    if error.errno not in _NO_SYNC:
      raise
  finally:
    os.close(opened)


def size(path: Path) -> int:
  """Returns the bytes of a file, or of all files in a folder; links count as themselves.

  Args:
    path: the file or folder.

  Example:
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write(folder / "a", b"abc"), write(folder / "b", b"de")
    >>> size(folder)
    5
  """
  if not path.is_dir():
    return path.stat().st_size
  return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())


def write_json(path: str | os.PathLike[str], value: Any) -> int:
  """Writes a JSON file, all or nothing; keys are sorted.

  Args:
    path: the file.
    value: JSON-able.

  Returns:
    The file's size in bytes.

  Example:
    >>> import tempfile
    >>> write_json(tempfile.mkdtemp() + "/file.json", {})
    3
  """
  return write(path, json.dumps(value, indent=1, sort_keys=True) + "\n")

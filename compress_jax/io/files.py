"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any


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

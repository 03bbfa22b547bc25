"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
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
    >>> write(tempfile.mkdtemp() + "/file", b"abc")
    3
  """
  path, content = Path(path), data.encode() if isinstance(data, str) else data
  # A stage that starts again removes what an interrupted one left under such names.
  with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.partial-",
                                   delete=False) as file:
    try:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
      os.chmod(file.name, 0o644)
      os.replace(file.name, path)
    except BaseException:
      os.unlink(file.name)
      raise
  return len(content)


def write_json(path: str | os.PathLike[str], value: Any) -> int:
  """Writes a JSON file, all or nothing; keys are sorted.

  Args:
    path: the file.
    value: JSON-able.

  Returns:
    The file's size in bytes.

  Example:
    >>> write_json(tempfile.mkdtemp() + "/file.json", {})
    3
  """
  return write(path, json.dumps(value, indent=1, sort_keys=True) + "\n")

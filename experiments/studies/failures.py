"""Stages that failed, as files: another process, and a later run, leave them alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from compress_jax.io import files

FILE = "failed.json"  # in a stage's directory


def keep(directory: Path, reason: str) -> None:
  """Notes that a stage failed.

  Args:
    directory: the stage's.
    reason: why, in one line.
  """
  files.write_json(directory / FILE, {"reason": reason, "at": time.time()})


def reason(directory: Path) -> str:
  """Returns why a stage failed, "" where it did not.

  Args:
    directory: the stage's, which need not be there.
  """
  return _noted(directory / FILE, "reason", "")


def forget(workdir: Path, before: float) -> None:
  """Lets stages that failed be tried again.

  Args:
    workdir: of the study.
    before: seconds since 1970; what failed later stays, for another process noted it.
  """
  for file in (workdir / "stages").glob(f"*/{FILE}"):
    if _noted(file, "at", 0.0) < before:
      file.unlink(missing_ok=True)


def _noted(file: Path, field: str, otherwise: Any) -> Any:
  """Returns what is noted of a failure, or `otherwise` where that cannot be read."""
  try:
    return json.loads(file.read_text())[field]
  except (OSError, ValueError, KeyError, TypeError):
    return otherwise

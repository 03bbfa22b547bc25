"""Stages that failed, as files: another process, and a later run, leave them alone."""

from __future__ import annotations

import json
import time
from pathlib import Path

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
  try:
    return json.loads((directory / FILE).read_text())["reason"]
  except (OSError, ValueError, KeyError, TypeError):
    return ""


def forget(workdir: Path, before: float) -> None:
  """Lets stages that failed be tried again.

  Args:
    workdir: of the study.
    before: seconds since 1970; what failed later stays, for another process noted it.
  """
  for file in (workdir / "stages").glob(f"*/{FILE}"):
    try:
      at = json.loads(file.read_text())["at"]
    except (OSError, ValueError, KeyError, TypeError):
      at = 0.0
    if at < before:
      file.unlink(missing_ok=True)

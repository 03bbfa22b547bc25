"""What results are made with: versions, the commit, devices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax

import compress_jax as cj


def of_stage() -> dict[str, Any]:
  """Returns what may change a stage's numbers and is not among what identifies the stage."""
  return {"commit": _commit(), "jax": jax.__version__,
          "devices": [str(d.device_kind) for d in jax.devices()],
          "xla_flags": os.environ.get("XLA_FLAGS", "")}


def of_results() -> dict[str, Any]:
  """Returns what results are written with: also date, versions, cores and command."""
  return {"date": time.strftime("%Y-%m-%d %H:%M:%S"),
          "python": platform.python_version(), "compress_jax": cj.__version__, **of_stage(),
          "platform": platform.platform(), "cores": os.cpu_count(), "command": " ".join(sys.argv)}


def _commit() -> str | None:
  """Returns the commit of the checkout, or None where there is none, or no git."""
  try:
    # Of this file's checkout, wherever the study was started.
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                          cwd=Path(__file__).parent, check=False)
  except OSError:
    return None
  return done.stdout.strip() or None

"""What is measured of a stage's model by one study's settings: kept beside the stage, not in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from compress_jax.io import files
from experiments import cpu

_FOLDER = "measured"  # in a stage's directory


def of(directory: Path, settings: Mapping[str, Any],
       measure: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
  """Returns what was measured by some settings, or measures it now.

  Studies share stages, a base model above all, and measure different things of them: what one
  measured must not stand in another's table, nor change which stage it is.

  Args:
    directory: of the stage, which is complete.
    settings: what the measurement depends on; JSON-able.
    measure: takes the measurement.

  Returns:
    Its numbers by name.

  Example:
    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> of(directory, {"batch": 1}, lambda: {"milliseconds": 2.0})
    {'milliseconds': 2.0}
    >>> of(directory, {"batch": 1}, lambda: {"milliseconds": 3.0})
    {'milliseconds': 2.0}
    >>> of(directory, {"batch": 8}, lambda: {"milliseconds": 9.0})
    {'milliseconds': 9.0}
  """
  file = directory / _FOLDER / f"{_digest(settings)}.json"
  found = _kept(file)
  if found is None:
    found = dict(measure())
    file.parent.mkdir(exist_ok=True)
    files.write(file, json.dumps({"settings": dict(settings), "measured": found,
                                  "checksum": _digest(found)}, indent=2))
  return found


def machine() -> dict[str, Any]:
  """Returns what times depend on beside the model: a table is to have those of one machine only.

  Returns:
    JSON-able: the device, its processor, and JAX's version.
  """
  return {"device": jax.devices()[0].device_kind, "cpu": cpu.name(), "cores": os.cpu_count(),
          "jax": jax.__version__}


def _kept(file: Path) -> dict[str, Any] | None:
  """Returns what a file has; None where it is not there or damaged: it is measured again."""
  try:
    known = json.loads(file.read_text())
    return known["measured"] if known["checksum"] == _digest(known["measured"]) else None
  except (OSError, ValueError, KeyError, TypeError):
    return None


def _digest(values: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:12]

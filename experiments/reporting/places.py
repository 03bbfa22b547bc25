"""Where results go: those of other settings in the same workdir are not overwritten."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import defaults
from experiments.training.progress import say

_LONGEST = 100  # characters of a folder's name; file systems take 255 bytes

MISSING = "missing.txt"  # beside results that lack the stages which failed

# Fields that change no row of results.csv.
_NO_MATTER = ("combo", "compare_steps", "of_study")


def folder(config: Any, root: Path) -> Path:
  """Returns where a study's results go, and makes that folder.

  The first settings that are reported in full in a workdir have its top; others have a folder under
  `results/` that is named by what differs, such as `results/imp.fraction=0.5`.

  Args:
    config: the study's configuration.
    root: of the results, usually the workdir.
  """
  ours = _comparable(config.to_dict())
  theirs = _reported(root / "results.json")
  if (root / MISSING).exists():
    theirs = None  # stages failed: what was reported without them makes room
  if theirs is None or theirs == ours:
    return root
  made = root / "results" / _name(theirs, ours)
  made.mkdir(parents=True, exist_ok=True)
  say(f"{root} has the results of other settings; these go to {made}")
  return made


def _comparable(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a configuration as results.json has it, without what changes no result."""
  kept = {name: value for name, value in config.items() if name not in _NO_MATTER}
  return json.loads(json.dumps(defaults.without(kept), sort_keys=True))


def _reported(file: Path) -> dict[str, Any] | None:
  """Returns the configuration whose results a file has; None where it has none to lose."""
  try:
    return _comparable(json.loads(file.read_text())["config"])
  except (OSError, ValueError, TypeError, KeyError, AttributeError):
    return None


def _name(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
  """Returns a folder's name, of the fields that differ.

  Example:
    >>> _name({"seeds": 1, "imp": {"fraction": 0.2, "rounds": 3}},
    ...       {"seeds": 2, "imp": {"fraction": 0.5, "rounds": 3}})
    'imp.fraction=0.5,seeds=2'
  """
  text = ",".join(_differences(theirs, ours)) or "fewer-fields"
  name = re.sub(r"[^\w=.,+-]+", "-", text.replace(" ", "")).strip("-.")
  if len(name) <= _LONGEST:
    return name
  # Names that are cut must still differ.
  digest = hashlib.sha256(text.encode()).hexdigest()[:8]
  return f"{name[:_LONGEST - 9]}-{digest}"


def _differences(theirs: Any, ours: Mapping[str, Any], before: str = "") -> Iterator[str]:
  for field, value in sorted(ours.items()):
    other = theirs.get(field) if isinstance(theirs, Mapping) else None
    if isinstance(value, Mapping):
      yield from _differences(other, value, f"{before}{field}.")
    elif value != other:
      yield f"{before}{field}={value}"

"""Where results go: those of other settings in the same workdir are not overwritten."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compress_jax.io import leases, stages
from experiments import defaults

try:
  import fcntl
except ImportError:  # Windows: nothing tells a removal that a study works in the workdir
  fcntl = None

_LONGEST = 100  # characters of a folder's name; file systems take 255 bytes

LOCK = "lock"  # in a workdir; see `held`
DTYPE = "compute_dtype"  # in a workdir: the precision that its first run chose
REPORT_LEASE = ".report"  # a folder where results of all settings are, of who writes some
MISSING = "missing.txt"  # beside results that lack the stages which failed

_NO_LOCKS = (errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)

_DATA = "data_fingerprint"  # beside the fields that are compared

# Fields that change no row of results.csv.
_NO_MATTER = ("combo", "compare_steps", "mesh", "of_study")


def folder(config: Any, root: Path, data: str) -> Path:
  """Returns where a study's results go, and makes that folder.

  The first settings that are reported in full in a workdir have its top; others have a folder under
  `results/` that is named by what differs, such as `results/imp.fraction=0.5`. Settings that
  have a folder keep it, also when the top has been removed.

  Args:
    config: the study's configuration.
    root: of the results, usually the workdir.
    data: fingerprint of the data, which `--data_dir` can change.
  """
  ours = _comparable(config.to_dict(), data)
  theirs = _reported(root / "results.json", data)
  if theirs == ours:
    return root
  made = _folder_of(ours, root)
  if made is None and (theirs is None or (root / MISSING).exists()):
    return root  # free, or reported without stages that failed, which makes room
  made = made or _free(root / "results" / _name(theirs, ours), ours)
  made.mkdir(parents=True, exist_ok=True)
  return made


def _folder_of(ours: Mapping[str, Any], root: Path) -> Path | None:
  """Returns the folder under `results/` that has these settings, or None."""
  for file in sorted((root / "results").glob("*/results.json")):
    if _reported(file, ours[_DATA]) == ours:
      return file.parent
  return None


def _free(made: Path, ours: Mapping[str, Any]) -> Path:
  """Returns a folder, or one beside it where others were named like this by what differed."""
  if _reported(made / "results.json", ours[_DATA]) is None:
    return made
  return made.with_name(f"{made.name}-{_digest(json.dumps(ours, sort_keys=True))}")


@contextlib.contextmanager
def held(workdir: Path, *, alone: bool = False) -> Iterator[bool]:
  """Holds a workdir: studies share it, and what removes results must have it alone.

  The system lets go of it if the process is killed. Where a file system has no such locks
  (some NFS), and for processes of other machines, stages' leases tell who works.

  Args:
    workdir: must be there.
    alone: whether nothing else may hold it; a study waits for what does, a removal doesn't.

  Yields:
    Whether it is held; False where a study works in it and `alone` was asked for.
  """
  # Writable: NFS makes such a lock one of the file's content.
  with (workdir / LOCK).open("a+") as file:
    try:
      if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if alone else fcntl.LOCK_SH)
      free = True
    except BlockingIOError:
      free = False
    except OSError as error:
      if error.errno not in _NO_LOCKS:
        raise
      free = True
    yield free and not (alone and _at_work(workdir))


def _at_work(workdir: Path) -> bool:
  """Returns whether any stage is held, by a process of whatever machine."""
  holders = (leases.holder(folder) for folder in (workdir / "stages").glob(f"*/{stages.LEASE}"))
  return any(holder is not None and holder.alive() for holder in holders)


def is_held(workdir: Path) -> bool:
  """Returns whether a study works in a workdir now.

  Args:
    workdir: any; no file is made there.
  """
  if not (workdir / LOCK).exists():
    return False
  try:
    with held(workdir, alone=True) as free:
      return not free
  except OSError:  # another user's
    return False


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:8]


def _comparable(config: Mapping[str, Any], data: str) -> dict[str, Any]:
  """Returns a configuration as results.json has it, without what changes no result."""
  kept = {name: value for name, value in config.items() if name not in _NO_MATTER}
  return {**json.loads(json.dumps(defaults.without(kept), sort_keys=True)), _DATA: data}


def _reported(file: Path, data: str) -> dict[str, Any] | None:
  """Returns the configuration whose results a file has; None where it has none to lose."""
  try:
    known = json.loads(file.read_text())
    # Earlier releases did not say: theirs pass for results of these data.
    return _comparable(known["config"], known.get("data", data))
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
  return f"{name[:_LONGEST - 9]}-{_digest(text)}"


def _differences(theirs: Any, ours: Mapping[str, Any], before: str = "") -> Iterator[str]:
  for field, value in sorted(ours.items()):
    other = theirs.get(field) if isinstance(theirs, Mapping) else None
    if isinstance(value, Mapping):
      yield from _differences(other, value, f"{before}{field}.")
    elif value != other:
      yield f"{before}{field}={value}"

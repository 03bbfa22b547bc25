"""Stages: named, resumable steps of a study, identified by what made them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compress_jax.io import checkpoint, files
from compress_jax.version import __version__

try:
  import fcntl
except ImportError:  # Windows: two processes on one stage are not kept apart
  fcntl = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One step of a study.

  Attributes:
    name: short, for people; part of the directory's name.
    spec: everything the result depends on, JSON-able.
    parent: the stage whose result this one starts from.
    data: fingerprint of the data.

  Example:
    >>> teacher = Stage(name="teacher", spec={"epochs": 1})
    >>> [s.name for s in Stage(name="student", spec={}, parent=teacher).lineage()]
    ['teacher', 'student']
  """

  name: str
  spec: Mapping[str, Any]
  parent: Stage | None = None
  data: str = ""

  @property
  def digest(self) -> str:
    """Twelve hex digits of all that identifies the result, ancestors included."""
    # The version is among it: another release may compute something else.
    parent = self.parent.digest if self.parent else None
    identity = [self.name, self.spec, parent, self.data, __version__]
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

  def directory(self, workdir: str | os.PathLike[str]) -> Path:
    """Returns where the stage is kept: `<workdir>/stages/<name>-<digest>`."""
    return Path(workdir) / "stages" / f"{self.name}-{self.digest}"

  def lineage(self) -> list[Stage]:
    """Returns the stages from the root to this one."""
    before = self.parent.lineage() if self.parent else []
    return [*before, self]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """A complete stage, as `run` and `find` return it.

  Attributes:
    stage: which one.
    directory: where it is.
    metrics: what it measured, JSON-able; `seconds` is the time it took.
  """

  stage: Stage
  directory: Path
  metrics: Mapping[str, Any]

  def load(self) -> Any:
    """Returns the stage's parameter tree.

    Raises:
      CheckpointError: the checkpoint is damaged.
    """
    try:
      return checkpoint.load(self.directory / "checkpoint")[0]
    except checkpoint.CheckpointError as error:
      raise checkpoint.CheckpointError(
          f"{error}; remove {self.directory} to run that stage again") from error


def run(stage: Stage, workdir: str | os.PathLike[str],
        work: Callable[[Path], tuple[Any, Mapping[str, Any]]],
        waiting: Callable[[], None] | None = None) -> Result:
  """Returns a stage's result, and works for it only if the stage is not complete.

  Args:
    stage: what to run; its parent is complete.
    workdir: the study's directory.
    work: called with the stage's directory, where it may keep what it needs to
      go on after an interruption; returns the parameter tree and the metrics.
    waiting: called where another process works on the stage, before this one waits for it.

  Returns:
    The result. `metrics.json` is written last: it marks the stage complete.

  Raises:
    CheckpointError: the stage is marked complete but cannot be read.

  Example:
    >>> import tempfile, numpy as np
    >>> workdir, calls = tempfile.mkdtemp(), []
    >>> def work(directory):
    ...   calls.append(directory)
    ...   return {"w": np.ones(1)}, {"accuracy": 0.5}
    >>> stage = Stage(name="teacher", spec={"epochs": 1})
    >>> _ = run(stage, workdir, work)
    >>> run(stage, workdir, work).metrics["accuracy"], len(calls)
    (0.5, 1)
  """
  directory = stage.directory(workdir)
  done = find(stage, workdir)
  if done is not None:
    return done
  directory.mkdir(parents=True, exist_ok=True)
  with _locked(directory, waiting):
    # Another process may have completed it meanwhile.
    return find(stage, workdir) or _run(stage, directory, work)


def _run(stage: Stage, directory: Path, work: Callable[[Path], Any]) -> Result:
  """Does a stage's work and writes what it made; the caller holds the lock."""
  before = _spent(directory)
  _clean(directory)
  files.write_json(directory / "stage.json", _description(stage))
  start = time.monotonic()
  files.write_json(directory / "started.json", {"at": time.time(), "spent": before})
  params, metrics = work(directory)
  metrics = {**metrics, "seconds": round(before + time.monotonic() - start, 3)}
  # The metrics last: where they are, everything else is.
  checkpoint.save(directory / "checkpoint", params, stage=stage.name, digest=stage.digest)
  files.write_json(directory / "metrics.json", metrics)
  return Result(stage=stage, directory=directory, metrics=metrics)


def _clean(directory: Path) -> None:
  """Removes what an interrupted attempt had begun to write."""
  for leftover in directory.rglob("*.partial-*"):
    if leftover.is_dir():
      shutil.rmtree(leftover, ignore_errors=True)
    else:
      leftover.unlink()


def _description(stage: Stage) -> dict[str, Any]:
  """Returns what people, and `inspect`, read of a stage."""
  parent = None if stage.parent is None else f"{stage.parent.name}-{stage.parent.digest}"
  return {"name": stage.name, "spec": stage.spec, "data": stage.data, "parent": parent,
          "version": __version__}


@contextlib.contextmanager
def _locked(directory: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
  """Holds a stage's lock, which the system releases if the process is killed."""
  with (directory / "lock").open("a") as file:
    if fcntl is not None:
      try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        if waiting is not None:
          waiting()
        fcntl.flock(file, fcntl.LOCK_EX)
    yield


def find(stage: Stage, workdir: str | os.PathLike[str]) -> Result | None:
  """Returns a complete stage's result, or None.

  Args:
    stage: which one.
    workdir: the study's directory.

  Returns:
    The result; None if the stage is not complete.

  Raises:
    CheckpointError: it is marked complete but its metrics cannot be read.

  Example:
    >>> import tempfile
    >>> find(Stage(name="teacher", spec={}), tempfile.mkdtemp()) is None
    True
  """
  file = stage.directory(workdir) / "metrics.json"
  if not file.exists():
    return None
  try:
    metrics = json.loads(file.read_text())
  except json.JSONDecodeError as error:
    raise checkpoint.CheckpointError(f"{file}: cannot be read, maybe cut short ({error})") from None
  return Result(stage=stage, directory=file.parent, metrics=metrics)


def _spent(directory: Path) -> float:
  """Returns the seconds that interrupted attempts took, as far as files tell."""
  file = directory / "started.json"
  if not file.exists():
    return 0.0
  started = json.loads(file.read_text())
  # Whatever was written last tells when the attempt still ran.
  last = max(p.stat().st_mtime for p in directory.rglob("*"))
  return started["spent"] + max(0.0, last - started["at"])

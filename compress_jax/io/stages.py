"""Stages: named, resumable steps of a study, identified by what made them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compress_jax.io import checkpoint, files, leases, metadata, stage_files
from compress_jax.version import __version__

LEASE = "lease"  # a folder in a stage's directory
_SPENT = f"{LEASE}/spent.json"  # seconds of interrupted attempts
_POLL = 0.5  # seconds between looks at a stage that another process works on


class DamagedStage(checkpoint.CheckpointError):
  """A file of a stage is missing, or not as the stage left it; the message has the remedy.

  Attributes:
    directory: what to remove.
  """

  def __init__(self, directory: Path, problem: str, remedy: str = "run that stage again"):
    """Makes the error.

    Args:
      directory: what to remove.
      problem: which file, and what is wrong with it.
      remedy: what happens once the directory is removed.
    """
    super().__init__(f"{problem}; remove {directory} to {remedy}")
    self.directory = directory


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

  def __post_init__(self):
    if not self.name or "/" in self.name or os.sep in self.name:
      raise ValueError(f"name={self.name!r}: must be the name of a folder")
    # Keys of two kinds may read alike: the stage of one would pass for the other's.
    metadata.plain(self.spec, "spec")

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
      DamagedStage: the checkpoint is damaged.
    """
    try:
      return checkpoint.load(self.directory / "checkpoint")[0]
    except checkpoint.CheckpointError as error:
      raise DamagedStage(self.directory, str(error)) from error


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
    The result. `complete.json` is written last: it marks the stage complete, and has the
    checksums of what the stage left: the files at the top of its directory (but `log.txt`,
    which may grow) and the checkpoint's manifest. Folders are for work in progress.

  Raises:
    DamagedStage: the stage is complete, but a file is not as it was left.

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
  done = find(stage, workdir)
  while done is None:
    done = attempt(stage, workdir, work)
    if done is None:
      # Said once, for one may wait for hours.
      if waiting is not None:
        waiting()
      waiting = None
      time.sleep(_POLL)
      done = find(stage, workdir)
  return done


def attempt(stage: Stage, workdir: str | os.PathLike[str],
            work: Callable[[Path], tuple[Any, Mapping[str, Any]]]) -> Result | None:
  """Does what `run` does, but returns None at once where another process works on the stage.

  Args:
    stage: see `run`.
    workdir: see `run`.
    work: see `run`.

  Raises:
    DamagedStage: see `run`.
    LeaseLost: this process seemed to be dead, and another took over.
  """
  directory = stage.directory(workdir)
  with leases.held(directory / LEASE) as lease:
    if lease is None:
      return None
    # Another process may have completed it meanwhile.
    return find(stage, workdir) or _run(stage, directory, work, lease)


def _run(stage: Stage, directory: Path, work: Callable[[Path], Any],
         lease: leases.Lease) -> Result:
  """Does a stage's work and writes what it made."""
  before, start = _spent(directory), time.monotonic()

  def spent() -> float:
    return round(before + time.monotonic() - start, 3)

  def keep() -> None:
    with contextlib.suppress(OSError):  # a full disk, of which the work itself will tell
      files.write_json(directory / _SPENT, spent())

  _clean(directory)
  files.write_json(directory / "stage.json", _description(stage, directory))
  lease.also = keep  # as time goes on: a process that is killed says nothing at its end
  try:
    params, metrics = work(directory)
  finally:
    keep()
  # What another process has taken over must not be written over.
  lease.check()
  metrics = {**metrics, "seconds": spent()}
  checkpoint.save(directory / "checkpoint", params, stage=stage.name, digest=stage.digest)
  files.write_json(directory / "metrics.json", metrics)
  lease.check()
  # Last: where it is, everything else is.
  stage_files.seal(directory)
  return Result(stage=stage, directory=directory, metrics=metrics)


def _clean(directory: Path) -> None:
  """Removes what an interrupted attempt had begun to write."""
  for leftover in directory.rglob("*.partial-*"):
    if leftover.is_dir():
      shutil.rmtree(leftover, ignore_errors=True)
    else:
      leftover.unlink()


def _description(stage: Stage, directory: Path) -> dict[str, Any]:
  """Returns what people, and `inspect`, read of a stage."""
  parent, model = None, ""
  if stage.parent is not None:
    parent = f"{stage.parent.name}-{stage.parent.digest}"
    model = stage_files.model_of(directory.with_name(parent))
  return {"name": stage.name, "spec": stage.spec, "data": stage.data, "parent": parent,
          "parent_model": model, "version": __version__, "marked_by": stage_files.COMPLETE}


def find(stage: Stage, workdir: str | os.PathLike[str]) -> Result | None:
  """Returns a complete stage's result, or None.

  Args:
    stage: which one.
    workdir: the study's directory.

  Returns:
    The result; None if the stage is not complete.

  Raises:
    DamagedStage: the stage is complete, but a file is not as it was left. Arrays' files are
      checked by their sizes here, and by their checksums when they are read.

  Example:
    >>> import tempfile
    >>> find(Stage(name="teacher", spec={}), tempfile.mkdtemp()) is None
    True
  """
  directory = stage.directory(workdir)
  if not stage_files.is_complete(directory):
    return None
  for problem in stage_files.damaged(directory):
    raise DamagedStage(directory, problem)
  metrics = json.loads((directory / "metrics.json").read_text())
  return Result(stage=stage, directory=directory, metrics=metrics)


def repair(workdir: str | os.PathLike[str]) -> list[str]:
  """Removes the stages that are damaged, so that `run` works for them again.

  Stages that a process works on now are left to it, and those that another version wrote to that.

  Args:
    workdir: the study's directory.

  Returns:
    One line for each stage that was removed: its directory's name, and what was wrong.

  Example:
    >>> import tempfile, numpy as np
    >>> workdir = tempfile.mkdtemp()
    >>> made = run(Stage(name="teacher", spec={}), workdir, lambda directory: ({}, {"loss": 1}))
    >>> _ = (made.directory / "metrics.json").write_text("{}")
    >>> len(repair(workdir)), made.directory.exists()
    (1, False)
  """
  problems: dict[Path, str] = {}
  sound = []
  for directory in sorted((Path(workdir) / "stages").glob("*")):
    holder = leases.holder(directory / LEASE)
    if (holder is not None and holder.alive()) or stage_files.other_version(directory):
      continue
    found = stage_files.check(directory)
    if found:
      problems[directory] = found[0]
    else:
      sound.append(directory)
  # What was made from a stage that will be another one goes as well, and what was made from that.
  again = [directory for directory, problem in problems.items()
           if problem in stage_files.of_another_parent(directory)]
  while again:
    parent = again.pop().name
    made = [d for d in sound if d not in problems and stage_files.parent_of(d)[0] == parent]
    problems |= dict.fromkeys(made, f"was made from {parent}, which is removed")
    again += made
  for directory in problems:
    shutil.rmtree(directory)
  return [f"{directory.name}: {problem}" for directory, problem in problems.items()]


def _spent(directory: Path) -> float:
  """Returns the seconds that interrupted attempts took."""
  try:
    return float(json.loads((directory / _SPENT).read_text()))
  except (OSError, ValueError, TypeError):
    return 0.0  # the first attempt; or times are lost with the file, and nothing else

"""Who works for a stage: this process, another one, or several together."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compress_jax.io import checkpoint, leases, stages
from experiments import faults, hosts
from experiments.studies.manner import Manner
from experiments.training.progress import say

_VISIBLE = 60  # seconds until a file of one host is seen on the others, at most

Work = Callable[[Path], tuple[Any, Mapping[str, Any]]]


def run(stage: stages.Stage, workdir: Path, work: Work, manner: Manner) -> stages.Result:
  """Returns a stage's result, after working for it or waiting for the process that does.

  Args:
    stage: not complete.
    workdir: of the study.
    work: see `stages.run`.
    manner: a worker does not wait.

  Raises:
    Busy: another process works on it, and this one is a worker.
  """
  if hosts.several():
    return _together(stage, workdir, work)
  if manner.worker:
    return _attempt(stage, workdir, work)
  return stages.run(stage, workdir, work, waiting=functools.partial(
      say, f"{stage.name}: waits for another process that works on it"))


def _attempt(stage: stages.Stage, workdir: Path, work: Work) -> stages.Result:
  try:
    made = stages.attempt(stage, workdir, work)
  except leases.LeaseLost:
    made = None
  if made is None:
    raise faults.Busy(stage.name)
  return made


def _together(stage: stages.Stage, workdir: Path, work: Work) -> stages.Result:
  """All processes compute a stage; the first one writes it."""
  if hosts.first():
    stages.run(stage, workdir, work)
  else:
    # Saving takes all of them; what the first measured is kept.
    params, _ = work(stage.directory(workdir))
    checkpoint.save(stage.directory(workdir) / "checkpoint", params)
  hosts.wait(f"stage {stage.name}")
  return seen(stage, workdir)


def seen(stage: stages.Stage, workdir: Path) -> stages.Result:
  """Returns the result of a stage that the first process has or found complete.

  Args:
    stage: which one.
    workdir: of the study.

  Raises:
    ValueError: it is not to be seen here, even after a while.
  """
  for _ in range(_VISIBLE):
    found = stages.find(stage, workdir)
    if found is not None:
      return found
    time.sleep(1)
  raise ValueError(f"workdir={str(workdir)!r}: the first process completed {stage.name}, and this "
                   "one does not see it; all must have one workdir, on a file system they share")

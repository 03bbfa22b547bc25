"""Whether all that is at a path is as it was saved: every array is read."""

from __future__ import annotations

import dataclasses

from compress_jax.inspect import orbax
from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import Inspection, arrays_of
from compress_jax.io import artifact, checkpoint, stage_files


def check(found: Inspection) -> Inspection:
  """Reads every array and notes each that is not as it was saved.

  Args:
    found: from `read`.

  Returns:
    The inspection with `failures` complete.
  """
  if found.what == "workdir":
    stages = tuple(map(check, found.stages))
    failures = []
    for stage in stages:
      failures += [f"{stage.path.name}: {failure}" for failure in stage.failures]
    return dataclasses.replace(found, stages=stages, failures=tuple(failures))
  return dataclasses.replace(found, failures=tuple(_failures(found)))


def is_empty(found: Inspection) -> bool:
  """Returns whether there is nothing to read: a stage that has no checkpoint yet.

  Args:
    found: from `read`.
  """
  return found.what == "stage" and not (found.leaves or found.failures or found.unread)


def _failures(found: Inspection) -> list[str]:
  if found.what == "artifact":
    return list(found.failures)  # an artifact is checked whenever it is read
  if found.what == "orbax":
    return list(orbax.unread(found.path))
  problems = _of_stage(found, found.stage) if found.what == "stage" and found.stage else []
  if is_empty(found) or found.unread:
    return problems
  try:
    return problems + checkpoint.check(arrays_of(found))
  except checkpoint.CheckpointError as error:
    return [*problems, str(error)]


def _of_stage(found: Inspection, stage: Stage) -> list[str]:
  """Returns what is wrong with a stage's files, but for its checkpoint."""
  problems = list(stage.problems)
  known = {*problems, *found.unread}
  problems += [line for line in stage_files.changed(found.path) if line not in known]
  return problems + _artifact_problems(stage)


def _artifact_problems(stage: Stage) -> list[str]:
  if stage.artifact is None:
    # Version 0.3 kept no list of files; its metrics tell that there was one.
    missing = "artifact_bytes" in stage.numbers and not (
        stage.directory / stage_files.COMPLETE).exists()
    return [f"{stage.directory / 'model.cjx'}: is missing"] if missing else []
  try:
    artifact.load(stage.artifact)
  except artifact.ArtifactError as error:
    return [str(error)]
  return []

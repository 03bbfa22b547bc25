"""How far a study is as a whole: its stages, those that are complete, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Sequence

from compress_jax.io import stage_files
from experiments import faults
from experiments.studies import tree
from experiments.studies.base import Study
from experiments.training.progress import say


class Whole:
  """Says after every stage how many there are still to come."""

  def __init__(self, studies: Sequence[Study]):
    """Counts the stages that are complete; nothing runs.

    Args:
      studies: one per seed; their manner looks only.
    """
    self._studies = studies
    self._started, self._at_start = time.monotonic(), self._count()[0]

  def begins(self) -> None:
    """Says how many stages there are, where some are still to run."""
    complete, known = self._count()
    if complete < known:
      say(f"{known} stages, {complete} complete")

  def goes_on(self) -> None:
    """Says how far the study is, after a stage has become complete."""
    complete, known = self._count()
    if complete < known:
      say(f"{complete} of {known} stages complete; {self._left(complete, known)}")

  def _count(self) -> tuple[int, int]:
    """Returns how many stages are complete, by whichever process, and how many are known."""
    complete = known = 0
    for study in self._studies:
      for name in _all(study):
        known += 1
        complete += _is_complete(study, name)
    return complete, known

  def _left(self, complete: int, known: int) -> str:
    """Returns the time so far, and what is left if the other stages take as long as these."""
    spent, run = time.monotonic() - self._started, complete - self._at_start
    text = f"{duration(spent)} so far"
    if run > 0:
      text += f", about {duration(spent / run * (known - complete))} left"
    return text


def _all(study: Study) -> dict[str, None]:
  """Returns the stages that a study has a row of, and those that they start from."""
  found: dict[str, None] = {}
  for name in tree.known(study):
    found |= dict.fromkeys([*study.needs(name), name])
  return found


def _is_complete(study: Study, name: str) -> bool:
  try:
    return stage_files.is_complete(study.stage(name).directory(study.workdir))
  except (faults.Busy, faults.StageFailed):
    return False  # what it is depends on what another stage finds


def duration(seconds: float) -> str:
  """Returns a time as people read it.

  Args:
    seconds: from 0.

  Example:
    >>> duration(42.4), duration(250), duration(7500)
    ('42 s', '4 min', '2 h 5 min')
  """
  if seconds < 100:
    return f"{seconds:.0f} s"
  minutes = round(seconds / 60)
  if minutes < 100:
    return f"{minutes} min"
  return f"{minutes // 60} h {minutes % 60} min"

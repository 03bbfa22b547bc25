"""A worker: takes stages that nobody works on, until none is left."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from experiments import faults
from experiments.studies.base import Study
from experiments.training.progress import say

# Seconds from one look to the next, at first and at most: hundreds of workers that wait would
# ask a shared file system tens of thousands of times a second (`experiments.simulate`).
FIRST, LONGEST = 1.0, 10.0


def work(studies: Sequence[Study]) -> None:
  """Runs what is missing of a study, beside other workers.

  Args:
    studies: one per seed; their manner is a worker's.

  Returns:
    When every stage is complete, failed or skipped, whoever ran it.
  """
  told, pause = "", FIRST
  while True:
    done = sum(study.stages_run for study in studies)
    busy = [stage for study in studies for stage in _try(study)]
    if not busy:
      return
    waits = f"waits for {', '.join(dict.fromkeys(busy))}, which other workers have"
    if sum(study.stages_run for study in studies) > done:
      continue  # time has passed: others may have completed what was missing
    pause = min(LONGEST, 1.3 * pause)
    if waits != told:
      say(waits)
      told, pause = waits, FIRST
    # Not all at once: workers that start together would look together for ever.
    time.sleep(pause * random.uniform(0.5, 1.0))


def _try(study: Study) -> list[str]:
  """Runs what can be run of one seed; returns the stages that others work on."""
  busy = []
  try:
    names = [*study.names, *study.more]
  except faults.StageFailed:
    return []
  except faults.Busy as error:
    return [error.stage]
  for name in names:
    try:
      study.has(name)
    except faults.Busy as error:
      busy.append(error.stage)
  return busy

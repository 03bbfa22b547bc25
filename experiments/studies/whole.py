"""How far a study is as a whole: its stages, those that are complete, and the time that is left."""

from __future__ import annotations

import collections
import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

import compress_jax as cj
from experiments.studies import tree
from experiments.studies.base import Study
from experiments.training import devices
from experiments.training.progress import say


class Whole:
  """Says after every stage how many there are still to come."""

  def __init__(self, studies: Sequence[Study]):
    """Counts the stages that are complete; nothing runs.

    Args:
      studies: one per seed; their manner looks only.
    """
    self._studies = studies
    self._started = time.monotonic()
    self._at_start, self._known = self._count()

  @property
  def unfinished(self) -> bool:
    """Whether some stage was not complete at the start."""
    return self._at_start < self._known

  def begins(self) -> None:
    """Says how many stages there are, where some are still to run.

    Raises:
      DamagedStage: a complete one is not as it was left.
    """
    if self.unfinished:
      trains_on = devices.described(self._studies[0].config.compute_dtype)
      say(f"{self._known} stages, {self._at_start} complete; trains on {trains_on}")
      # Not when their turn comes, after hours of others.
      for study in self._studies:
        study.check_complete()
      for line in _of_other_releases(self._studies[0].workdir):
        say(line)

  def goes_on(self) -> None:
    """Says how far the study is, after a stage has become complete."""
    complete, known = self._count()
    if complete < known:
      say(f"{complete} of {known} stages complete; {self._left(complete, known)}")

  def _count(self) -> tuple[int, int]:
    """Returns how many stages are complete, by whichever process, and how many are known."""
    found = tree.of_all(self._studies)
    return sum(node.state == "complete" for node in found), len(found)

  def _left(self, complete: int, known: int) -> str:
    """Returns the time so far, and what is left if the other stages take as long as these."""
    spent, run = time.monotonic() - self._started, complete - self._at_start
    text = f"{duration(spent)} so far"
    if run > 0:
      text += f", about {duration(spent / run * (known - complete))} left"
    return text


def _of_other_releases(workdir: Path) -> list[str]:
  """Returns a line for each release whose stages are here, and of no use to this one."""
  found: collections.Counter[str] = collections.Counter()
  for file in workdir.glob("stages/*/stage.json"):
    with contextlib.suppress(OSError, ValueError):  # it is being written, or removed
      found[json.loads(file.read_text()).get("version", cj.__version__)] += 1
  return [f"{count} stages here are of release {version}, and are not used: "
          f"compress_jax=={version} would go on with them"
          for version, count in sorted(found.items()) if version != cj.__version__]


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

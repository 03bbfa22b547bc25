"""How a study's cost grows: its tree of stages on 1 to 256 workers, by times that were measured.

python -m experiments.simulate --config=configs/combo.py --workdir=DIR --copies=3

DIR holds the complete study; every stage takes as long as it took there, and `--copies=` says how
many seeds there are. Workers take stages in the order of the study, as `--worker` does.
"""

from __future__ import annotations

import dataclasses
import heapq
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from compress_jax.io import files
from experiments import cpu
from experiments.datasets import builders
from experiments.reporting.paper_tables import lines
from experiments.studies import tree, workers
from experiments.studies.base import Study
from experiments.studies.manner import Manner

WORKERS = tuple(2**n for n in range(9))
# Files that a worker without work reads of a stage in each look: is it complete, has it failed,
# who holds it.
_LOOKS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A stage, as far as time goes.

  Attributes:
    name: the stage's; other seeds have other names.
    seconds: that it takes.
    needs: the tasks that must be complete before it.
    size: bytes that it leaves, all of which its children read.
  """

  name: str
  seconds: float
  needs: tuple[str, ...] = ()
  size: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
  """What a number of workers makes of some tasks.

  Attributes:
    workers: how many.
    seconds: until the last task is complete.
    idle: seconds of workers without work, summed.
  """

  workers: int
  seconds: float
  idle: float


def schedule(tasks: Sequence[Task], count: int) -> Outcome:
  """Returns what workers make of tasks, each of whom takes the first one that can run.

  Args:
    tasks: parents in front of their children.
    count: of workers, from 1.

  Source: list scheduling, Graham 1969: at most twice the best time.

  Example:
    >>> tasks = [Task(name="base", seconds=2.0), Task(name="q", seconds=1.0, needs=("base",)),
    ...          Task(name="imp", seconds=3.0, needs=("base",))]
    >>> [schedule(tasks, n).seconds for n in (1, 2, 3)]
    [6.0, 5.0, 5.0]
  """
  waiting, done, now = list(tasks), set(), 0.0
  running: list[tuple[float, str]] = []
  while waiting or running:
    while len(running) < count:
      ready = next((task for task in waiting if done.issuperset(task.needs)), None)
      if ready is None:
        break
      waiting.remove(ready)
      heapq.heappush(running, (now + ready.seconds, ready.name))
    now, name = heapq.heappop(running)
    done.add(name)
  # Rounding must not make it less than nothing.
  idle = max(0.0, count * now - _seconds(tasks))
  return Outcome(workers=count, seconds=now, idle=idle)


def critical_path(tasks: Sequence[Task]) -> list[Task]:
  """Returns the chain of tasks that takes longest: no number of workers is faster.

  Args:
    tasks: parents in front of their children.

  Example:
    >>> tasks = [Task(name="a", seconds=2.0), Task(name="b", seconds=1.0, needs=("a",)),
    ...          Task(name="c", seconds=2.5)]
    >>> [task.name for task in critical_path(tasks)]
    ['a', 'b']
  """
  chains: dict[str, list[Task]] = {}
  for task in tasks:
    before = max((chains[name] for name in task.needs), key=_seconds, default=[])
    chains[task.name] = [*before, task]
  return max(chains.values(), key=_seconds, default=[])


def _seconds(tasks: Sequence[Task]) -> float:
  return sum(task.seconds for task in tasks)


def measured(study: Study) -> list[Task]:
  """Returns the stages of a complete study as tasks, with the times that they took.

  Args:
    study: its manner looks only.

  Raises:
    ValueError: a stage is not complete.
  """
  tasks = []
  for node in tree.nodes(study):
    directory = study.stage(node.name).directory(study.workdir)
    if node.state != "complete":
      raise ValueError(f"workdir={str(study.workdir)!r}: stage {node.name} is {node.state}; the "
                       "study must be complete there")
    metrics = json.loads((directory / "metrics.json").read_text())
    tasks.append(Task(name=node.name, seconds=metrics["seconds"], size=files.size(directory),
                      needs=tuple(study.needs(node.name))))
  return tasks


def copies(tasks: Sequence[Task], count: int) -> list[Task]:
  """Returns the tasks of several seeds, one seed behind the other.

  Args:
    tasks: of one seed.
    count: of seeds.

  Example:
    >>> [task.name for task in copies([Task(name="base", seconds=1.0)], 2)]
    ['base/0', 'base/1']
  """
  made = []
  for seed in range(count):
    for task in tasks:
      needs = tuple(f"{name}/{seed}" for name in task.needs)
      made.append(dataclasses.replace(task, name=f"{task.name}/{seed}", needs=needs))
  return made


def table(tasks: Sequence[Task], counts: Sequence[int] = WORKERS) -> str:
  """Returns how long numbers of workers take, and what they ask of a shared file system.

  Args:
    tasks: parents in front of their children.
    counts: numbers of workers.

  Returns:
    Markdown.
  """
  heading = ["workers", "time", "times faster", "at work, %", "files, MB/s", "looks per second"]
  rows, one, moved = [heading], schedule(tasks, 1), _moved(tasks)
  for count in counts:
    outcome = schedule(tasks, count)
    working = 1 - outcome.idle / (count * outcome.seconds)
    # Each worker without work looks at every stage, again and again.
    looks = outcome.idle / outcome.seconds * len(tasks) * _LOOKS / workers.LONGEST
    rows.append([str(count), _time(outcome.seconds), f"{one.seconds / outcome.seconds:.1f}",
                 f"{100 * working:.0f}", f"{moved / outcome.seconds / 1e6:.1f}", f"{looks:,.0f}"])
  return lines(rows)


def _moved(tasks: Sequence[Task]) -> int:
  """Returns the bytes that all tasks write, and read of those that they start from."""
  sizes: Mapping[str, int] = {task.name: task.size for task in tasks}
  return sum(task.size + sum(sizes[name] for name in task.needs) for task in tasks)


def _time(seconds: float) -> str:
  if seconds < 600:
    return f"{seconds:.0f} s"
  return f"{seconds / 60:.0f} min" if seconds < 36_000 else f"{seconds / 3600:.1f} h"


def opened(config: Any, workdir: Path, data_dir: str | None) -> Study:
  """Returns a study to look at, and not to run.

  Args:
    config: as for launch.py.
    workdir: where it is, or has been run.
    data_dir: see `builders.builder`.
  """
  # As launch.py does, or "auto" would be another precision, and the stages others.
  cpu.prepare()
  module = importlib.import_module(config.study.rpartition(".")[0])
  (kind,) = (value for value in vars(module).values()
             if isinstance(value, type) and issubclass(value, Study))
  builder = builders.builder(config.data.name, data_dir, config.data.get("side"))
  return kind(config, workdir, builder, config.seed, None, Manner(looks="plan"))


def main(_: Any) -> None:
  """Prints the critical path and the table."""
  logging.set_verbosity(logging.ERROR)
  asked = flags.FLAGS
  study = opened(asked.config, Path(asked.workdir), asked.data_dir)
  tasks = copies(measured(study), asked.copies)
  longest = critical_path(tasks)
  total, bound = _seconds(tasks), _seconds(longest)
  print(f"{len(tasks)} stages, {_time(total)} one after the other; the critical path is "
        f"{_time(bound)} ({' → '.join(task.name.rpartition('/')[0] for task in longest)}): at "
        f"best {total / bound:.1f} times as fast\n")
  print(table(tasks))


def _define_flags() -> None:
  """Defines what the command takes; not when it is imported, by what has such flags of its own."""
  config_flags.DEFINE_config_file("config", None, "The study, as for launch.py.")
  flags.DEFINE_string("workdir", None, "Where the study is complete.", required=True)
  flags.DEFINE_string("data_dir", None, "As for launch.py.")
  flags.DEFINE_integer("copies", 1, "How many seeds to simulate.", 1)


if __name__ == "__main__":
  _define_flags()
  app.run(main)

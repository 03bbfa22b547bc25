"""Workers of one study: how long 1, 2 and 4 processes take, beside what the simulation says.

python -m benchmarks.bench_workers --config=configs/combo.py:digits --config.seeds=4

Each process is `launch.py --worker` from its start to its end, on one core of its own as long as
there are enough. The simulation has the stages' times of the run with one worker, and neither a
process's start nor what it compiles for itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import simulate
from experiments.reporting.paper_tables import lines

_CONFIG = config_flags.DEFINE_config_file("config", None, "The study, as for launch.py.")
_COUNTS = flags.DEFINE_list("counts", ["1", "2", "4"], "Numbers of workers; the first must be 1.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "As for launch.py.")

_ROOT = Path(__file__).parents[1]


def _started(arguments: Sequence[str], core: int) -> subprocess.Popen[str]:
  """Starts a worker on one core."""
  # The process starts there already: libraries count the cores when they are loaded.
  before = os.sched_getaffinity(0)
  os.sched_setaffinity(0, {core})
  try:
    return subprocess.Popen([sys.executable, "launch.py", *arguments, "--worker"], cwd=_ROOT,
                            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
  finally:
    os.sched_setaffinity(0, before)


def _seconds(arguments: Sequence[str], count: int) -> float:
  """Returns how long a number of workers takes for a study, all of whose stages are new."""
  cores = sorted(os.sched_getaffinity(0))
  start = time.perf_counter()
  workers = [_started(arguments, cores[i % len(cores)]) for i in range(count)]
  for worker in workers:
    output = worker.communicate()[0]
    if worker.returncode:
      raise RuntimeError(f"a worker of {count} ended with {worker.returncode}:\n{output}")
  return time.perf_counter() - start


def main(argv: Sequence[str]) -> None:
  """Runs the study once for each number of workers, and prints the table."""
  del argv
  if _COUNTS.value[:1] != ["1"]:
    raise app.UsageError(f"--counts={','.join(_COUNTS.value)}: the first must be 1")
  logging.set_verbosity(logging.ERROR)
  # The configuration's own flags go to the workers as they were given here.
  given = [argument for argument in sys.argv[1:] if not argument.startswith("--counts")]
  cores = len(os.sched_getaffinity(0))
  with tempfile.TemporaryDirectory() as folder:
    took: dict[int, float] = {}
    for count in map(int, _COUNTS.value):
      took[count] = _seconds([*given, f"--workdir={folder}/{count}"], count)
    tasks = _tasks(_CONFIG.value, Path(folder) / _COUNTS.value[0])
  rows = [["workers", "seconds", "times faster", "simulated"]]
  for count, seconds in took.items():
    ideal = simulate.schedule(tasks, 1).seconds / simulate.schedule(tasks, count).seconds
    rows.append([str(count), f"{seconds:.0f}", f"{took[1] / seconds:.2f}", f"{ideal:.2f}"])
  print(f"{len(tasks)} stages, {cores} cores\n\n{lines(rows)}")


def _tasks(config: Any, workdir: Path) -> list[simulate.Task]:
  one = simulate.measured(simulate.opened(config, workdir, _DATA_DIR.value))
  return simulate.copies(one, config.seeds)


if __name__ == "__main__":
  app.run(main)

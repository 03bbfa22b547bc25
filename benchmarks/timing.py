"""Timing of functions against each other, in one run."""

import statistics
import time

import jax


def in_turns(runs, calls):
  """Returns the median seconds of each function, warmed up, called in turns.

  Args:
    runs: {name: function of no arguments}.
    calls: timed calls of each.

  Returns:
    {name: seconds}.

  Example:
    >>> sorted(in_turns({"one": lambda: 1, "two": lambda: 2}, 3))
    ['one', 'two']
  """
  seconds = {name: [] for name in runs}
  for run in runs.values():
    jax.block_until_ready(run())
  for _ in range(calls):
    for name, run in runs.items():
      start = time.perf_counter()
      jax.block_until_ready(run())
      seconds[name].append(time.perf_counter() - start)
  return {name: statistics.median(times) for name, times in seconds.items()}

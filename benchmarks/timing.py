"""Timing of functions against each other, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def in_turns(runs: Mapping[str, Callable[[], Any]], calls: int,
             burst: int = 1) -> dict[str, list[float]]:
  """Times functions that are called in turns, so that a slow moment slows all of them.

  Each is called once before, to compile and warm up.

  Args:
    runs: {name: function of no arguments}; it returns arrays, which are waited for.
    calls: measurements of each.
    burst: calls of a measurement, which is their mean. From 2 on another one goes before them,
      untimed: short calls suffer from what the others left in caches, and from their threads.

  Returns:
    {name: seconds of each call}; equal places of the lists were timed one after the other.

  Example:
    >>> {name: len(seconds) for name, seconds in in_turns({"one": lambda: 1}, 3).items()}
    {'one': 3}
  """
  seconds: dict[str, list[float]] = {name: [] for name in runs}
  for run in runs.values():
    jax.block_until_ready(run())
  for _ in range(calls):
    for name, run in runs.items():
      if burst > 1:
        jax.block_until_ready(run())
      start = time.perf_counter()
      for _ in range(burst):
        jax.block_until_ready(run())
      seconds[name].append((time.perf_counter() - start) / burst)
  return seconds


def medians(runs: Mapping[str, Callable[[], Any]], calls: int) -> dict[str, float]:
  """Returns the median seconds of functions that are called in turns; see `in_turns`.

  Args:
    runs: {name: function of no arguments}.
    calls: timed calls of each.

  Example:
    >>> sorted(medians({"one": lambda: 1, "two": lambda: 2}, 3))
    ['one', 'two']
  """
  return {name: statistics.median(times) for name, times in in_turns(runs, calls).items()}


def looped(function: Callable[..., Any], count: int) -> Callable[..., jax.Array]:
  """Returns a compiled function that runs another one several times, one run after the other.

  Args:
    function: of x and other arguments, which returns an array.
    count: of runs. A short one on a GPU takes less time than it takes to be started.

  Returns:
    A function of the same arguments that returns a number, in which all runs have a part.

  Example:
    >>> import jax.numpy as jnp
    >>> looped(jnp.dot, 3)(jnp.ones((2, 2)), jnp.ones((2, 2))).item()
    6.0
  """
  def run(x: Any, *rest: Any) -> jax.Array:
    def step(_: Any, carry: Any) -> Any:
      x, total = carry
      # Behind the barrier every run has an input of its own, and needs all of its output.
      x, y = jax.lax.optimization_barrier((x, function(x, *rest)))
      return x, total + y.ravel()[0].astype(jnp.float32)

    return jax.lax.fori_loop(0, count, step, (x, jnp.float32(0)))[1]

  return jax.jit(run)


def ratios(above: list[float], below: list[float]) -> str:
  """Returns the median of the ratios of two functions' seconds, and their range.

  Args:
    above: seconds of one, of `in_turns`.
    below: seconds of the other, from the same call of `in_turns`.

  Example:
    >>> ratios([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    '1.000 (0.500 to 1.500)'
  """
  # Of calls that followed each other: what else ran then slowed both.
  each = [a / b for a, b in zip(above, below, strict=True)]
  return f"{statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f})"

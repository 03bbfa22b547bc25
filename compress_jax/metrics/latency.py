"""How long a compiled function takes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from compress_jax import checks, tree


@dataclasses.dataclass(frozen=True, kw_only=True)
class Latency:
  """Times of one call, in seconds.

  Attributes:
    median: half of the calls took no longer.
    p95: 95 % of the calls took no longer.
    fastest: the shortest.
    calls: how many were timed.
  """

  median: float
  p95: float
  fastest: float
  calls: int


def latency(fn: Callable[..., Any], params: Any, inputs: Any, *,
            batches: Sequence[int] | None = None, calls: int = 50,
            warmup: int = 5) -> dict[int, Latency]:
  """Times a model: compiled, warmed up, the result of each call waited for.

  Args:
    fn: the model, called as `fn(params, inputs)`; compiled here. For compressed
      leaves pass `cj.lift(fn)`.
    params: its parameters.
    inputs: a batch, (N, ...).
    batches: sizes to time, the first so many of `inputs`; by default 1 and N.
    calls: timed calls per size.
    warmup: calls before them, which are not timed; the first compiles.

  Returns:
    {batch size: Latency}.

  Raises:
    ValueError: a size outside 1 to N, fewer than one call, or inputs that are no array.

  Example:
    >>> import jax.numpy as jnp
    >>> times = latency(lambda p, x: x @ p, jnp.eye(2), jnp.ones((8, 2)), calls=3)
    >>> sorted(times), times[8].fastest <= times[8].median <= times[8].p95
    ([1, 8], True)
  """
  if not getattr(inputs, "shape", ()):
    raise ValueError(f"inputs: a {type(inputs).__name__}; must be an array, (N, ...)")
  most = len(inputs)
  sizes = sorted({1, most}) if batches is None else list(batches)
  checks.whole("calls", calls, 1)
  checks.whole("warmup", warmup, 1)
  if any(not 1 <= size <= most for size in sizes):
    raise ValueError(f"batches={batches}: must be from 1 to {most}, what inputs hold")
  found = {}
  # A model's module may hold functions, which a compiled program cannot take.
  arrays, rebuild = tree.arrays_of(params)
  compiled = jax.jit(lambda arrays, x: fn(rebuild(arrays), x))
  # On the device beforehand, so that no copy is timed.
  arrays = jax.device_put(arrays)
  for size in sizes:
    batch = jax.device_put(inputs[:size])
    found[size] = _timed(compiled, arrays, batch, calls, warmup)
  return found


def _timed(fn: Callable[..., Any], arrays: Any, inputs: Any, calls: int, warmup: int) -> Latency:
  """Returns the times of one size."""
  for _ in range(warmup):
    jax.block_until_ready(fn(arrays, inputs))
  times = np.empty(calls)
  for i in range(calls):
    start = time.perf_counter()
    jax.block_until_ready(fn(arrays, inputs))  # a call returns before it has computed
    times[i] = time.perf_counter() - start
  return Latency(median=float(np.median(times)), p95=float(np.percentile(times, 95)),
                 fastest=float(times.min()), calls=calls)

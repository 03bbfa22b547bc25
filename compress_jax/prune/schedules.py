"""Schedules of numbers that change during training (sparsity, above all).

Each function returns one, a function of the step as Optax's are. Every argument may be traced, so
that schedules are made and run inside the compiled step.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

Number = jax.Array | float
Schedule = Callable[[Number], jax.Array]


def constant(final: Number, *, start: Number = 0) -> Schedule:
  """Is 0 before `start` and `final` from then on.

  Args:
    final: the value reached.
    start: the step at which it starts.

  Returns:
    step -> float32.

  Example:
    >>> schedule = constant(0.5, start=10)
    >>> [float(schedule(step)) for step in (9, 10)]
    [0.0, 0.5]
  """
  return lambda step: jnp.where(jnp.asarray(step) >= start, jnp.asarray(final, jnp.float32), 0.0)


def linear(final: Number, *, initial: Number = 0.0, start: Number = 0, stop: Number) -> Schedule:
  """Moves evenly from `initial` at `start` to `final` at `stop`.

  Args:
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    step -> float32.

  Example:
    >>> float(linear(1.0, stop=10)(5))
    0.5
  """
  return _between(initial, final, start, stop, lambda progress: 1 - progress)


def cosine(final: Number, *, initial: Number = 0.0, start: Number = 0, stop: Number) -> Schedule:
  """Moves along half a cosine from `initial` at `start` to `final` at `stop`.

  Args:
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    step -> float32.

  Example:
    >>> round(float(cosine(1.0, stop=10)(5)), 6)
    0.5
  """
  wave = lambda progress: (1 + jnp.cos(jnp.pi * progress)) / 2
  return _between(initial, final, start, stop, wave)


def cubic(final: Number, *, initial: Number = 0.0, start: Number = 0, stop: Number) -> Schedule:
  """Moves from `initial` at `start` to `final` at `stop`, fast at first, then ever slower.

  final + (initial - final) * (1 - progress)^3

  Args:
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    step -> float32.

  Source: Zhu and Gupta 2017, "To prune, or not to prune", equation 1.

  Example:
    >>> float(cubic(0.8, stop=10)(5)).__round__(6)
    0.7
  """
  return _between(initial, final, start, stop, lambda progress: (1 - progress)**3)


def _between(initial: Number, final: Number, start: Number, stop: Number,
             left: Callable[[jax.Array], jax.Array]) -> Schedule:
  """Returns what goes from one value to the other; `left` says how much of the way there is."""
  def schedule(step: Number) -> jax.Array:
    end = jnp.asarray(final, jnp.float32)
    # From the end: a sum with nothing left is `final` to the last bit.
    return end + (initial - end) * left(_progress(step, start, stop))
  return schedule


def _progress(step: Number, start: Number, stop: Number) -> jax.Array:
  """Returns how far `step` is from `start` to `stop`, clipped to 0 to 1."""
  step, stop = jnp.asarray(step, jnp.float32), jnp.asarray(stop, jnp.float32)
  # A schedule that starts where it stops is a jump, not a division by 0.
  length = jnp.maximum(stop - start, 1e-9)
  return jnp.where(step >= stop, 1.0, jnp.clip((step - start) / length, 0, 1))

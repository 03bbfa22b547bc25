"""Schedules of numbers that change during training (sparsity, above all).

Every argument may be traced, so that they run inside the compiled step.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

Number = jax.Array | float


def _progress(step: Number, start: Number, stop: Number) -> jax.Array:
  """Returns how far `step` is from `start` to `stop`, clipped to 0 to 1."""
  step, stop = jnp.asarray(step, jnp.float32), jnp.asarray(stop, jnp.float32)
  # A schedule that starts where it stops is a jump, not a division by 0.
  length = jnp.maximum(stop - start, 1e-9)
  return jnp.where(step >= stop, 1.0, jnp.clip((step - start) / length, 0, 1))


def constant(step: Number, final: Number, *, start: Number = 0) -> jax.Array:
  """Returns 0 before `start` and `final` from then on.

  Args:
    step: the present step.
    final: the value reached.
    start: the step at which it starts.

  Returns:
    float32.

  Example:
    >>> [float(constant(s, 0.5, start=10)) for s in (9, 10)]
    [0.0, 0.5]
  """
  return jnp.where(jnp.asarray(step) >= start, jnp.asarray(final, jnp.float32), 0.0)


def linear(step: Number, final: Number, *, initial: Number = 0.0, start: Number = 0,
           stop: Number) -> jax.Array:
  """Moves evenly from `initial` at `start` to `final` at `stop`.

  Args:
    step: the present step.
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    float32.

  Example:
    >>> float(linear(5, 1.0, stop=10))
    0.5
  """
  return initial + (jnp.asarray(final, jnp.float32) - initial) * _progress(step, start, stop)


def cosine(step: Number, final: Number, *, initial: Number = 0.0, start: Number = 0,
           stop: Number) -> jax.Array:
  """Moves along half a cosine from `initial` at `start` to `final` at `stop`.

  Args:
    step: the present step.
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    float32.

  Example:
    >>> round(float(cosine(5, 1.0, stop=10)), 6)
    0.5
  """
  wave = (1 - jnp.cos(jnp.pi * _progress(step, start, stop))) / 2
  return initial + (jnp.asarray(final, jnp.float32) - initial) * wave


def cubic(step: Number, final: Number, *, initial: Number = 0.0, start: Number = 0,
          stop: Number) -> jax.Array:
  """Moves from `initial` at `start` to `final` at `stop`, fast at first, then ever slower.

  final + (initial - final) * (1 - progress)^3

  Args:
    step: the present step.
    final: the value from `stop` on.
    initial: the value until `start`.
    start: first step.
    stop: last step.

  Returns:
    float32.

  Source: Zhu and Gupta 2017, "To prune, or not to prune", equation 1.

  Example:
    >>> float(cubic(5, 0.8, stop=10)).__round__(6)
    0.7
  """
  final = jnp.asarray(final, jnp.float32)
  return final + (initial - final) * (1 - _progress(step, start, stop))**3

"""Learning rates, step by step; every number may be traced."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp


def cosine(step: Any, steps: Any, first: Any, last: Any) -> jax.Array:
  """Returns the learning rate at a step: half a cosine.

  Args:
    step: from 0.
    steps: when `last` is reached; the rate stays there afterwards.
    first: the rate at step 0.
    last: the rate at the end.

  Source: Loshchilov and Hutter 2017 (SGDR, equation 5), without restarts.

  Example:
    >>> float(cosine(5, 10, 1.0, 0.0).round(3))
    0.5
  """
  return last + (first - last) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / steps, 1))) / 2


def linear(step: Any, steps: Any, first: Any, last: Any) -> jax.Array:
  """Returns the learning rate at a step: a straight line; every argument may be traced.

  Args:
    step: from 0.
    steps: when `last` is reached; the rate stays there afterwards.
    first: the rate at step 0.
    last: the rate at the end.

  Example:
    >>> float(linear(5, 10, 1.0, 0.0))
    0.5
  """
  return first + (last - first) * jnp.minimum(step / steps, 1)


def one_cycle(step: Any, steps: Any, first: Any, last: Any, warmup: Any) -> jax.Array:
  """Returns the learning rate at a step: a straight line up, and one down (a triangle).

  Args:
    step: from 0.
    steps: when the rate is back at `last`.
    first: the highest rate.
    last: the rate at both ends.
    warmup: fraction of the steps that the rate rises, from 0 (not at all) to below 1.

  Source: Smith 2018 (arXiv 1803.09820), without the last, even lower phase.

  Example:
    >>> [float(one_cycle(step, 8, 1.0, 0.0, 0.5)) for step in (0, 1, 4, 6, 8)]
    [0.0, 0.25, 1.0, 0.5, 0.0]
  """
  at = jnp.minimum(step / steps, 1)
  # A warmup of nothing would divide by 0; so short a rise has no step in it.
  rise = at / jnp.maximum(warmup, 1e-9)
  fall = (1 - at) / (1 - warmup)
  return last + (first - last) * jnp.where(at < warmup, rise, fall)


def _constant(step: Any, steps: Any, first: Any, last: Any) -> jax.Array:
  return jnp.asarray(first, jnp.float32)


_WITHOUT_WARMUP = {"cosine": cosine, "linear": linear, "constant": _constant}
KINDS = (*_WITHOUT_WARMUP, "one_cycle")


def rate(kind: str, step: Any, numbers: Any) -> jax.Array:
  """Returns the learning rate at a step.

  Args:
    kind: one of `KINDS`; "constant" stays at `first`.
    step: from 0.
    numbers: {"steps", "first", "last"}; for "one_cycle" also "warmup".

  Example:
    >>> float(rate("linear", 5, {"steps": 10, "first": 1.0, "last": 0.0}))
    0.5
  """
  given = numbers["steps"], numbers["first"], numbers["last"]
  if kind == "one_cycle":
    return one_cycle(step, *given, numbers["warmup"])
  return _WITHOUT_WARMUP[kind](step, *given)

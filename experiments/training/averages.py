"""Moving averages of weights: smoother than any step's, and usually more accurate."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

import compress_jax as cj

PARTS = ("trainable", "stats")  # of the state: weights, and statistics of batch norms


def start(state: Any) -> Any:
  """Returns the averages at the first step: copies of what is averaged.

  Args:
    state: of training.
  """
  return {part: jax.tree.map(jnp.copy, state[part]) for part in PARTS}


def step(average: Any, state: Any, decay: Any, at: Any) -> Any:
  """Returns the averages after a step.

  Args:
    average: before it.
    state: of training, after it.
    decay: weight of the past, 0 to below 1; may be traced.
    at: the step's number, from 0. The first steps count for more, or where training
      started would stay in the average for long.

  Source: Polyak and Juditsky 1992; the first steps as in TensorFlow's
  `ExponentialMovingAverage`.

  Example:
    >>> ones, zeros = ({"trainable": jnp.full(1, x), "stats": {}} for x in (1.0, 0.0))
    >>> step(ones, zeros, 0.5, 1000)["trainable"].tolist()
    [0.5]
  """
  decay = jnp.minimum(decay, (1 + at) / (10 + at))
  now = {part: state[part] for part in PARTS}
  return jax.tree.map(lambda past, x: decay * past + (1 - decay) * x, average, now)


def result(state: Any, refit: bool) -> Any:
  """Returns what is evaluated and kept of a state: the averages where there are any.

  Args:
    state: of training.
    refit: whether grids follow the weights; they then span the averages.

  Returns:
    {"trainable", "rest", "stats"}.
  """
  parts = {part: state[part] for part in ("trainable", "rest", "stats")}
  if "average" not in state:
    return parts
  parts |= state["average"]
  if refit:
    params = cj.quantize.refit(cj.merge(parts["trainable"], parts["rest"]))
    parts["trainable"], parts["rest"] = split(params, parts["trainable"])
  return parts


def split(params: Any, trainable: Any) -> tuple[Any, Any]:
  """Splits parameters as others were split, whatever trains of them.

  Args:
    params: whole parameters.
    trainable: those of the same structure that train, None in the others' places.

  Returns:
    (trainable, rest), as `cj.partition` returns them.
  """
  none = lambda x: x is None
  chosen = jax.tree.map(lambda t, x: None if t is None else x, trainable, params, is_leaf=none)
  rest = jax.tree.map(lambda t, x: x if t is None else None, trainable, params, is_leaf=none)
  return chosen, rest

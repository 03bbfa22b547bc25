"""What can go wrong while a study runs, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.tree import path_str


class NotFinite(ArithmeticError):
  """Training, or a model, has numbers that are not finite; the message has a hint."""


class NotThere(LookupError):
  """A stage's result that is asked for, and that this run does not have."""


class StageFailed(NotThere):
  """A stage failed in this run; those that start from it cannot run.

  Attributes:
    stage: its name.
  """

  def __init__(self, stage: str, reason: str):
    """Makes the error.

    Args:
      stage: the name of the stage that failed.
      reason: why, for people.
    """
    super().__init__(f"{stage}: {reason}")
    self.stage = stage


class StudyFailed(Exception):
  """Some stages of a study failed; the others ran, and what there is was reported.

  Attributes:
    reported: whether there was a base model, and so a report.
  """

  def __init__(self, text: str, *, reported: bool):
    """Makes the error.

    Args:
      text: what failed and what was skipped.
      reported: whether a report was written.
    """
    super().__init__(text)
    self.reported = reported


def check_epoch(at: str, means: Mapping[str, float], weights: Any, hint: str) -> None:
  """Raises an error where an epoch of training left numbers that are not finite.

  Args:
    at: which epoch, for the message.
    means: of the epoch; losses are those whose name ends in "loss".
    weights: the arrays after the epoch.
    hint: what to do about it.

  Raises:
    NotFinite: names the epoch, what is not finite, and the hint.

  Example:
    >>> check_epoch("epoch 2/4", {"loss": float("nan")}, {}, "lower the learning rate")
    Traceback (most recent call last):
    ...
    experiments.faults.NotFinite: epoch 2/4: loss is nan; lower the learning rate
  """
  for name, value in means.items():
    if name.endswith("loss") and not np.isfinite(value):
      raise NotFinite(f"{at}: {name} is {value}; {hint}")
  check_weights(at, weights, hint)


def check_weights(at: str, weights: Any, hint: str) -> None:
  """Raises an error where arrays have elements that are not finite.

  Args:
    at: what they are of, for the message.
    weights: a tree of arrays and leaves; integers and keys are always finite.
    hint: what to do about it.

  Raises:
    NotFinite: names the first such array, and the hint.
  """
  for path, x in jax.tree_util.tree_leaves_with_path(weights):
    # On the host: no program is compiled for it, and a checkpoint brings them there anyway.
    if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(np.asarray(x)).all():
      raise NotFinite(f"{at}: {path_str(path)} is not finite; {hint}")

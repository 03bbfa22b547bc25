"""Checks of a study's configuration, whose errors name the field that cannot be used."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from typing import Any

MANY = 10**9  # a count that needs no limit
SEEDS = {"seeds": (1, 10**4)}

# Of a part of the configuration that says how to train (`configs.common.train`).
_TRAINING = {"epochs": (1, 10**6), "batch_size": (1, 10**6), "steps_per_epoch": (0, MANY),
             "learning_rate": (0, 10), "final_learning_rate": (0, 10)}


def numbers(config: Any, limits: Mapping[str, tuple[float, float]]) -> None:
  """Raises an error for the first number outside its limits.

  Args:
    config: a study's configuration.
    limits: {field: (lowest, highest)}; a field within a part is "part.field". A
      highest of `math.inf` is no limit.

  Raises:
    ValueError: names the field, its value and its limits.

  Example:
    >>> numbers({"kd": {"alpha": 2.0}}, {"kd.alpha": (0, 1)})
    Traceback (most recent call last):
    ...
    ValueError: config.kd.alpha=2.0: must be from 0 to 1
  """
  for field, (low, high) in limits.items():
    value = functools.reduce(lambda part, key: part[key], field.split("."), config)
    if not low <= value <= high:
      most = "" if math.isinf(high) else f" to {high}"
      raise ValueError(f"config.{field}={value}: must be from {low}{most}")


def training(parts: Iterable[str]) -> dict[str, tuple[float, float]]:
  """Returns the limits of how parts of a configuration train, as `numbers` takes them.

  Args:
    parts: fields at the top of the configuration that have `train`.

  Example:
    >>> training(["kd"])["kd.train.epochs"]
    (1, 1000000)
  """
  limits: dict[str, tuple[float, float]] = {}
  for part in parts:
    for field, pair in _TRAINING.items():
      limits[f"{part}.train.{field}"] = pair
  return limits


def choice(field: str, value: Any, choices: Iterable[Any]) -> None:
  """Raises an error for a value that is none of the choices.

  Args:
    field: of the configuration, for the message.
    value: the field's, or one of the field's values.
    choices: what it can be.

  Raises:
    ValueError: names the field, the value and the choices.

  Example:
    >>> choice("search.by", "loss", ("accuracy", "log_likelihood"))
    Traceback (most recent call last):
    ...
    ValueError: config.search.by='loss': must be one of accuracy, log_likelihood
  """
  choices = list(choices)
  if value not in choices:
    raise ValueError(f"config.{field}={value!r}: must be one of {', '.join(map(str, choices))}")


def fractions(field: str, values: Iterable[float]) -> None:
  """Raises an error for the first value that is not from 0 to below 1.

  Args:
    field: of the configuration, for the message.
    values: the field's.

  Raises:
    ValueError: names the field and the value.
  """
  for value in values:
    if not 0 <= value < 1:
      raise ValueError(f"config.{field}: {value} must be from 0 to below 1")

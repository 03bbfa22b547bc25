"""What the fields of the suggestion study's configuration may be, and the limits they ask for."""

from __future__ import annotations

from typing import Any

from compress_jax.search import Limits
from experiments.studies import checks

# Fields that limit the model; None is no limit. Accuracies are fractions.
LIMITS = {"max_bytes": (1, 10**12), "max_latency_ms": (1e-6, 1e12), "max_accuracy_drop": (0, 1)}

_LIMITS = {
    "batch": (1, checks.MANY), "calls": (1, checks.MANY),
    # The first evaluation is of the model before compression.
    "search.evaluations": (2, checks.MANY), **checks.SEEDS}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  asked = given(config)
  if not asked:
    raise ValueError(", ".join(f"config.{field}" for field in LIMITS) + ": give at least one of "
                     "them, for instance --config.max_bytes=20000")
  checks.numbers(config, {field: LIMITS[field] for field in asked})
  checks.numbers(config, _LIMITS)
  checks.choice("search.by", config.search.by, ("accuracy", "log_likelihood"))


def given(config: Any) -> dict[str, float]:
  """Returns the limits that a configuration asks for, by the name of their field."""
  return {field: config[field] for field in LIMITS if config[field] is not None}


def named(config: Any) -> list[str]:
  """Returns the limits that a configuration asks for in words: ["max_bytes=20000"]."""
  return [f"{field}={value:g}" for field, value in given(config).items()]


def limits_of(config: Any) -> Limits:
  """Returns the limits of a configuration, as `cj.search` takes them."""
  return Limits(max_bytes=config.max_bytes, max_latency_ms=config.max_latency_ms,
                max_drop=config.max_accuracy_drop)

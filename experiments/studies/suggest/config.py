"""What the fields of the suggestion study's configuration may be, and the limits they ask for."""

from __future__ import annotations

from typing import Any

from compress_jax.search import Limits
from experiments.studies import checks, rules

# Fields that limit the model; None is no limit. Accuracies are fractions.
LIMITS = {"max_bytes": rules.Number(1, 10**12, whole=True, optional=True),
          "max_latency_ms": rules.Number(1e-6, 1e12, optional=True),
          "max_accuracy_drop": rules.Number(0, 1, optional=True)}

FIELDS = {
    **LIMITS, "batch": rules.count(1), "deploy": rules.count(0, 1000),
    "choices.sparsities": rules.Each(rules.BelowOne(), least=1),
    "choices.bits": rules.Each(rules.Number(2, 16, whole=True, optional=True), least=1),
    "choices.ranks": rules.Each(rules.Number(1e-6, 1, optional=True), least=1),
    "search.by": rules.OneOf(("accuracy", "log_likelihood")),
    "search.images": rules.count(0, zero="all of the validation split"),
    # The first evaluation is of the model before compression.
    "search.evaluations": rules.count(2), "search.reserve": rules.Number(0, 0.99),
    "finetune.train.epochs": rules.count(0, 10**6, zero="the weights stay as they are")}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  if not given(config):
    raise ValueError(", ".join(f"config.{field}" for field in LIMITS) + ": give at least one of "
                     "them, for instance --config.max_bytes=20000")
  checks.config(config, FIELDS)


def given(config: Any) -> dict[str, float]:
  """Returns the limits that a configuration asks for, by the name of their field."""
  return {field: config[field] for field in LIMITS if config[field] is not None}


def named(config: Any) -> list[str]:
  """Returns the limits that a configuration asks for in words: ["max_bytes=20000"]."""
  return [f"{field}={value:.15g}" for field, value in given(config).items()]


def limits_of(config: Any) -> Limits:
  """Returns the limits of a configuration, as `cj.search` takes them."""
  return Limits(max_bytes=config.max_bytes, max_latency_ms=config.max_latency_ms,
                max_drop=config.max_accuracy_drop)

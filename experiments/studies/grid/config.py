"""What the fields of the grid study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks
from experiments.studies.grid import training

_LIMITS = {
    "base_epochs": (1, 10**4), "prune_epochs": (1, 10**4), "round_epochs": (1, 10**4),
    "batch_size": (1, 10**6), "steps_per_epoch": (0, checks.MANY), "learning_rate": (0, 10),
    "images": (1, checks.MANY), "compare_steps": (0, 10**6), **checks.SEEDS}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.numbers(config, _LIMITS)
  checks.fractions("sparsities", config.sparsities)
  for bits in config.bits:
    checks.choice("bits", bits, training.ROUNDED)

"""What the fields of the grid study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks
from experiments.studies.grid import training

FIELDS = {
    "base_epochs": checks.count(1, 10**4), "prune_epochs": checks.count(1, 10**4),
    "round_epochs": checks.count(1, 10**4), "batch_size": checks.count(1, 10**6),
    "steps_per_epoch": checks.count(0, zero="a pass over the data"),
    "learning_rate": checks.Number(0),
    "compare_steps": checks.count(0, 10**6, zero="no comparison"), "vmap": checks.Switch(),
    "sparsities": checks.Each(checks.BelowOne(), least=1),
    "bits": checks.Each(checks.OneOf(tuple(training.ROUNDED)), least=1)}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)

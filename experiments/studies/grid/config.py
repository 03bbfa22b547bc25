"""What the fields of the grid study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks, rules
from experiments.studies.grid import training

FIELDS = {
    "prune_epochs": rules.count(1, 10**4),
    "round_epochs": rules.count(1, 10**4), "batch_size": rules.count(1, 10**6),
    "steps_per_epoch": rules.count(0, zero="a pass over the data"),
    "learning_rate": rules.Number(0), "decays": rules.Switch(),
    "compare_steps": rules.count(0, 10**6, zero="no comparison"), "vmap": rules.Switch(),
    "sparsities": rules.Each(rules.BelowOne(), least=1),
    "bits": rules.Each(rules.OneOf(tuple(training.ROUNDED)), least=1)}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)

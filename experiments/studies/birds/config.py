"""What the fields of the birds study's configuration may be."""

from __future__ import annotations

import os
from typing import Any

from experiments.studies import checks, rules

# How Table III may be pruned: which weights are ranked together, and the penalty in training.
GRID = ("layer-l1", "layer-l2", "global-l1", "global-l2")

FIELDS = {
    # Smaller images vanish in its networks.
    "data.side": rules.count(32, 4096),
    "prune.rounds": rules.count(1, 1000), "prune.l1": rules.Number(0, 1),
    "prune.l2": rules.Number(0, 1), "prune.grid": rules.Each(rules.OneOf(GRID))}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)
  if config.weights and not os.path.isfile(config.weights):
    raise ValueError(f"config.weights={config.weights!r}: no such file; it must be a .pth or "
                     ".safetensors file of torchvision's resnet50")

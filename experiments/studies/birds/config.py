"""What the fields of the birds study's configuration may be."""

from __future__ import annotations

import os
from typing import Any

from experiments.studies import checks

# How Table III may be pruned: which weights are ranked together, and the penalty in training.
GRID = ("layer-l1", "layer-l2", "global-l1", "global-l2")

_LIMITS = {
    "alpha": (0, 1), "temperature": (1e-3, 1e3), "data.side": (32, 4096),
    "prune.fraction": (0.001, 0.999), "prune.rounds": (1, 1000), "prune.l1": (0, 1),
    "prune.l2": (0, 1), "images": (1, checks.MANY), "calls": (1, checks.MANY), **checks.SEEDS}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.numbers(config, _LIMITS)
  for kind in config.prune.grid:
    checks.choice("prune.grid", kind, GRID)
  if config.weights and not os.path.isfile(config.weights):
    raise ValueError(f"config.weights={config.weights!r}: no such file; it must be a .pth or "
                     ".safetensors file of torchvision's resnet50")

"""What the fields of the VGG-16 study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks

_LIMITS = {"temperature": (1e-3, 1e3), "alpha": (0, 1), "images": (1, checks.MANY),
           "calls": (1, checks.MANY), **checks.SEEDS}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.fractions("ratio", [config.ratio])
  checks.fractions("ratios", config.ratios)
  checks.numbers(config, _LIMITS)

"""What the fields of the VGG-16 study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks, rules

FIELDS = {"ratio": rules.BelowOne(), "ratios": rules.Each(rules.BelowOne())}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)

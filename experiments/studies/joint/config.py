"""What the fields of the joint study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks

SERIAL = ("kd", "imp", "q")  # the parts of the serial pipeline, in order

_LIMITS = {
    "sparsity": (0, 0.999), "bits": (2, 8), "activation_bits": (2, 8), "alpha": (0, 1),
    "temperature": (1e-3, 1e3), "images": (1, checks.MANY), **checks.SEEDS}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.numbers(config, _LIMITS)
  for field in ("steps_per_epoch", "batch_size"):
    values = {config[part].train[field] for part in SERIAL}
    if len(values) > 1:
      raise ValueError(f"config.kd, config.imp, config.q: {field} must not differ, or epochs "
                       "could not be compared")

"""What the fields of the joint study's configuration may be."""

from __future__ import annotations

from typing import Any

from experiments.studies import checks, rules

SERIAL = ("kd", "imp", "q")  # the parts of the serial pipeline, in order

FIELDS = {
    "sparsity": rules.Number(0, 0.999), "bits": rules.count(2, 8),
    "activation_bits": rules.count(2, 8), "joint.learning_rate": rules.Number(0),
    "joint.schedule": rules.OneOf(("linear", "cosine", "cubic")),
    "joint.start": rules.Number(0, 1), "joint.stop": rules.Number(0, 1),
    "joint.every": rules.count(1)}


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  checks.config(config, FIELDS)
  if config.joint.start > config.joint.stop:
    raise ValueError(f"config.joint.start={config.joint.start}: must not be above "
                     f"config.joint.stop={config.joint.stop}")
  for field in ("steps_per_epoch", "batch_size"):
    values = {config[part].train[field] for part in SERIAL}
    if len(values) > 1:
      raise ValueError(f"config.kd, config.imp, config.q: {field} must not differ, or epochs "
                       "could not be compared")

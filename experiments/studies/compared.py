"""A model's row beside the base model's, as the evaluation paper compares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import compress_jax as cj

Row = Mapping[str, Any]


def with_base(row: Row, base: Row, *, sparsity: float, bits: float) -> dict[str, float]:
  """Returns how a model differs from the one that it is compared with.

  Args:
    row: of the model: test_accuracy, gzip_bytes.
    base: the same of the other model.
    sparsity: of the model, 0 to 1.
    bits: of a weight of it.

  Returns:
    delta_accuracy, in percentage points; gzip_reduction, how many times fewer bytes its arrays
    take through gzip; quality.

  Source: "Evaluation of compression combinations", equation 5.

  Example:
    >>> base = {"test_accuracy": 0.9, "gzip_bytes": 400}
    >>> with_base({"test_accuracy": 0.9, "gzip_bytes": 100}, base, sparsity=0.5, bits=8)
    {'delta_accuracy': 0.0, 'gzip_reduction': 4.0, 'quality': 0.0}
  """
  delta = 100 * (row["test_accuracy"] - base["test_accuracy"])
  reduction = base["gzip_bytes"] / row["gzip_bytes"]
  quality = cj.metrics.quality(sparsity, bits, delta, reduction)
  return {"delta_accuracy": delta, "gzip_reduction": reduction, "quality": float(quality)}

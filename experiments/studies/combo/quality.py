"""The evaluation paper's quality metric, extended to smaller models and to factors.

The paper has it for pruning and quantization, and names other techniques as future work.
Its sparsity becomes the share of the base model's parameters that is gone, whether it was
pruned, factorized away or never in the student; its bits become the mean of those left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.reporting import over_seeds
from experiments.reporting.paper_tables import lines
from experiments.studies import compared

Row = Mapping[str, Any]

_INTRODUCTION = (
    "Q = (gone + 8 / bits) / 2 · tanh(Δ accuracy in points) · sigmoid(reduction), equation 5 of "
    "\"Evaluation of compression combinations\", where the sparsity is the share of the base "
    "model's parameters that is gone (pruned, factorized away, or never in the student) and bits "
    "are the mean of those that are left; the reduction is of arrays through gzip, as there. "
    "Best first.")


def columns(row: Row, base: Row) -> dict[str, float]:
  """Returns what the metric is made of, and the metric.

  Args:
    row: of a model: test_accuracy, nonzero_params, nonzero_bytes, gzip_bytes.
    base: the same of the model that it is compared with, and params.

  Returns:
    gone, 0 to 1; bits; delta_accuracy, in percentage points; gzip_reduction; quality.

  Source: "Evaluation of compression combinations", equation 5, and its future work.

  Example:
    >>> base = {"test_accuracy": 0.9, "params": 100, "nonzero_params": 100, "nonzero_bytes": 400,
    ...         "gzip_bytes": 400}
    >>> half = {**base, "nonzero_params": 50, "nonzero_bytes": 50, "gzip_bytes": 50}
    >>> {name: float(value) for name, value in columns(half, base).items()}
    {'gone': 0.5, 'bits': 8.0, 'delta_accuracy': 0.0, 'gzip_reduction': 8.0, 'quality': 0.0}
  """
  # Factors of a small matrix can have more parameters than it.
  gone = max(0.0, 1 - row["nonzero_params"] / base["params"])
  bits = 8 * row["nonzero_bytes"] / max(1, row["nonzero_params"])
  found = compared.with_base(row, base, sparsity=gone, bits=min(64.0, bits))
  return {"gone": gone, "bits": bits, **found}


def text(rows: Sequence[Row]) -> str:
  """Returns the models by their quality as Markdown.

  Args:
    rows: of results.csv, of one or more seeds.
  """
  table = [["combination", "Q", "gone, %", "bits", "Δ accuracy, points",
            "times smaller"]]
  others = [row for row in over_seeds.means(rows) if row["combo"] != "base"]
  for row in sorted(others, key=lambda row: -row["quality"]):
    table.append([row["combo"], f"{row['quality']:.4f}", f"{100 * row['gone']:.1f}",
                  f"{row['bits']:.1f}", f"{row['delta_accuracy']:+.2f}",
                  f"{row['gzip_reduction']:.1f}"])
  return f"\n## Quality\n\n{_INTRODUCTION}\n\n{lines(table)}" if others else ""

"""Results over seeds: one row per combination, and what a table says about its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments import faults

Row = Mapping[str, Any]


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Returns one row per combination: the mean of each number over seeds.

  Args:
    rows: one row per combination and seed.

  Returns:
    The means, with "seeds" and the standard deviations of the test and validation
    accuracies, "spread" and "val_spread", which are None for a single seed.
  """
  out = []
  for combo in dict.fromkeys(row["combo"] for row in rows):
    same = [row for row in rows if row["combo"] == combo]
    mean: dict[str, Any] = {}
    # Names, files and remarks have no mean.
    for field, value in same[0].items():
      if isinstance(value, int | float):
        values = [row[field] for row in same]
        # What is the same for all seeds stays so to the last bit: a sparsity is looked up by it.
        mean[field] = float(value if values.count(value) == len(values) else np.mean(values))
    out.append({**mean, "combo": combo, "spread": _deviation(same, "test_accuracy"),
                "val_spread": _deviation(same, "val_accuracy"), "seeds": len(same)})
  return out


def _deviation(rows: Sequence[Row], field: str) -> float | None:
  if len(rows) < 2:
    return None
  # Of a sample (n - 1): the seeds are a few of many.
  return float(np.std([row[field] for row in rows], ddof=1))


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
  """Returns rows by the name of their combination.

  Args:
    rows: of `means`: one row per combination.

  Returns:
    A dictionary that raises `faults.NotThere` for a name that it lacks.
  """
  return _Rows((row["combo"], row) for row in rows)


class _Rows(dict):
  """Rows by name; asking for one that is not there says which."""

  def __missing__(self, name: str) -> Row:
    raise faults.NotThere(f"results of {name}")


def text(means: Sequence[Row]) -> str:
  """Returns what a table of results says about its seeds, and which rows have fewer.

  Args:
    means: of `means`, one row or more.

  Example:
    >>> text([{"combo": "base", "seeds": 1}])
    'a single seed'
    >>> text([{"combo": "base", "seeds": 3}, {"combo": "q", "seeds": 2}])
    'mean ± standard deviation over 3 seeds (q: 2)'
  """
  most = max(row["seeds"] for row in means)
  if most == 1:
    return "a single seed"
  # A stage that failed for one seed must not pass for a mean over all of them.
  fewer = [f"{row['combo']}: {row['seeds']}" for row in means if row["seeds"] < most]
  over = f"mean ± standard deviation over {most} seeds"
  return f"{over} ({', '.join(fewer)})" if fewer else over

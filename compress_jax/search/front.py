"""Which points no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(costs: Sequence[Sequence[float]] | np.ndarray) -> list[int]:
  """Returns the places of the rows that no other row dominates.

  Args:
    costs: one row per point, one column per quantity, all better when smaller.

  Returns:
    Places, ordered by the first column. Of equal rows only the first is there.

  Example:
    >>> front([(3, 1), (1, 2), (2, 2), (1, 2)])
    [1, 0]
  """
  rows = np.asarray(costs, np.float64).reshape(len(costs), -1)
  # In this order whatever dominates a row comes before it, so one pass is enough.
  order = np.lexsort(rows.T[::-1])
  kept: list[int] = []
  for i in order:
    beaten = (rows[kept] <= rows[i]).all(1).any()
    if not beaten:
      kept.append(int(i))
  return kept

"""Which points no other one beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def front(costs: Sequence[Sequence[float]]) -> list[int]:
  """Returns the places of the rows that no other row dominates.

  Args:
    costs: a row a point, a column a quantity, all of them better when smaller.

  Returns:
    Places, ordered by the first column. Of equal rows only the first is there.

  Example:
    >>> front([(3, 1), (1, 2), (2, 2), (1, 2)])
    [1, 0]
  """
  rows = np.asarray(costs, np.float64).reshape(len(costs), -1)
  order = np.lexsort(rows.T[::-1])  # whoever dominates a row comes before it
  kept: list[int] = []
  for i in order:
    if not kept or not (rows[kept] <= rows[i]).all(1).any():
      kept.append(int(i))
  return kept

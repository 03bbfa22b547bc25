"""The best plans where losses and costs add up over layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compress_jax import checks

Row = Sequence[float] | np.ndarray


def cheapest(losses: Sequence[Row], costs: Sequence[Row], *,
             states: int = 2048) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns every plan that no other beats, where losses and costs add up over layers.

  Layer by layer the best sums so far are extended by every choice, and those that
  are beaten are dropped: exact as long as there are no more than `states` of them,
  else those nearest to evenly spaced places stay.

  Args:
    losses: one row per layer, one entry per choice; rows may differ in length.
    costs: rows of the same lengths.
    states: sums that are kept after each layer, at most; from 2.

  Returns:
    (plans, cost, loss) in order of rising cost and falling loss: int, (N, layers),
    the choice of each layer; float64, (N,), twice.

  Raises:
    ValueError: no layer, rows that do not match or hold infinities or NaN, or too few
      states.

  Source: Nemhauser and Ullmann 1969, "Discrete dynamic programming and capital
  allocation".

  Example:
    >>> plans, cost, loss = cheapest([[0, 1], [0, 3]], [[5, 1], [4, 2]])
    >>> plans.tolist(), cost.tolist()
    ([[1, 1], [1, 0], [0, 0]], [3.0, 5.0, 9.0])
  """
  lengths, other = [len(row) for row in losses], [len(row) for row in costs]
  if not lengths or lengths != other:
    raise ValueError(f"losses has rows of {lengths}, costs of {other}: must be the same, "
                     "at least one")
  checks.whole("states", states, 2)
  for name, rows in (("losses", losses), ("costs", costs)):
    if not all(np.isfinite(row).all() for row in rows):
      raise ValueError(f"{name} holds infinities or NaN: must be finite numbers")
  cost, loss, plans = np.zeros(1), np.zeros(1), np.zeros((1, 0), np.int64)
  for more_loss, more_cost in zip(losses, costs, strict=True):
    # Every sum so far (rows) with every choice of this layer (columns).
    sums = (cost[:, None] + np.asarray(more_cost, np.float64)).ravel()
    lost = (loss[:, None] + np.asarray(more_loss, np.float64)).ravel()
    kept = _thinned(_unbeaten(sums, lost), states)
    before, choice = np.divmod(kept, len(more_cost))
    cost, loss = sums[kept], lost[kept]
    plans = np.column_stack([plans[before], choice])
  return plans, cost, loss


def _unbeaten(cost: np.ndarray, loss: np.ndarray) -> np.ndarray:
  """Returns the places of the sums that no other one beats, by rising cost."""
  order = np.lexsort((loss, cost))
  least = np.minimum.accumulate(loss[order])
  # Only what loses less than everything cheaper is worth its cost.
  better = np.concatenate([[True], loss[order][1:] < least[:-1]])
  return order[better]


def _thinned(kept: np.ndarray, states: int) -> np.ndarray:
  """Returns at most `states` of the places, evenly spaced, both ends among them."""
  if len(kept) <= states:
    return kept
  return kept[np.linspace(0, len(kept) - 1, states).round().astype(int)]

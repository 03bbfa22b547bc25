"""Which rank: a number, a number below r_max, a share of the energy, a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from compress_jax import tree
from compress_jax.leaves.base import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
  """A weight that is to be factorized.

  Attributes:
    path: its place in the tree.
    shape: its shape.
    full: the largest rank.
    energy: squared singular values, float64, largest first; None while tracing.
    cost: parameters that one rank takes.
  """

  path: str
  shape: tuple[int, ...]
  full: int
  energy: np.ndarray | None
  cost: int


def candidate(path: str, shape: tuple[int, ...], s: Array, cost: int = 1) -> Candidate:
  """Returns the candidate with these singular values."""
  known = tree.concrete(s)
  energy = None if known is None else known.astype(np.float64) ** 2
  return Candidate(path=path, shape=shape, full=s.size, energy=energy, cost=cost)


def max_rank(shape: tuple[int, ...]) -> int:
  """Returns r_max of a weight of this shape, rounded down.

  r_max = d_in * d_out / (d_in + d_out) is where the factors have as many
  parameters as the matrix ("Combinatorics with model compression", equation 2).

  Example:
    >>> max_rank((448, 10))
    9
  """
  outputs = shape[-1]
  inputs = math.prod(shape[:-1])
  return inputs * outputs // (inputs + outputs)


def check_one(**choices: object) -> None:
  """Raises a ValueError unless exactly one of the named arguments is given."""
  if sum(x is not None for x in choices.values()) != 1:
    shown = ", ".join(f"{name}={x}" for name, x in choices.items())
    raise ValueError(f"{shown}: give exactly one of them")


def chosen(candidates: Sequence[Candidate], *, rank: int | None, delta: int | None,
           energy: float | None, budget: float | None) -> list[int]:
  """Returns the rank of every weight.

  Args:
    candidates: the weights.
    rank: of every one; exactly one of the four is given.
    delta: the rank is r_max - delta.
    energy: the smallest rank that keeps this share of the squared singular
      values, above 0, up to 1.
    budget: parameters of all factors together, as a fraction of the weights'
      own. Ranks are given out one by one, to whichever weight gains the most
      energy, relative to its own total, a parameter.

  Returns:
    Ranks, in order.

  Raises:
    ValueError: a number out of range; a budget that is less than rank 1
      everywhere; energy or budget for weights that are traced.
  """
  check_one(rank=rank, delta=delta, energy=energy, budget=budget)
  if rank is None and delta is None and any(c.energy is None for c in candidates):
    raise ValueError(f"energy={energy}, budget={budget}: the weights are traced, but they decide "
                     "the factors' shapes; factorize outside jit, or give rank or delta")
  if energy is not None:
    if not 0 < energy <= 1:
      raise ValueError(f"energy={energy}: may be above 0, up to 1")
    return [_for_energy(c, energy) for c in candidates]
  if budget is not None:
    return _for_budget(candidates, budget)
  return [_checked(c, rank, delta) for c in candidates]


def _checked(c: Candidate, rank: int | None, delta: int | None) -> int:
  used = rank if delta is None else max_rank(c.shape) - delta
  if not 1 <= used <= c.full:
    argument = f"rank={rank}" if delta is None else f"delta={delta} (rank {used})"
    raise ValueError(f"{c.path}: {argument}: the rank of a {c.shape} weight may be from 1 to "
                     f"{c.full}")
  return used


def _for_energy(c: Candidate, energy: float) -> int:
  share = np.cumsum(c.energy) / max(c.energy.sum(), np.finfo(np.float64).tiny)
  # A weight of zeros, or rounding at the end, keeps what there is.
  return min(int((share < energy * (1 - 1e-12)).sum()) + 1, c.full)


def _for_budget(candidates: Sequence[Candidate], budget: float) -> list[int]:
  tree.check_number("budget", budget, 0, 1)
  allowed = budget * sum(math.prod(c.shape) for c in candidates)
  spent = sum(c.cost for c in candidates)
  if spent > allowed:
    raise ValueError(f"budget={budget}: rank 1 everywhere takes {spent} parameters; it may be from "
                     f"{spent / sum(math.prod(c.shape) for c in candidates):.4f}")
  gains = sorted(((c.energy[r] / max(c.energy.sum(), 1e-300) / c.cost, -i, r)
                  for i, c in enumerate(candidates) for r in range(1, c.full)), reverse=True)
  ranks, full = [1] * len(candidates), set()
  for _, i, _ in gains:  # singular values fall, so a weight's ranks come in order
    c = candidates[-i]
    if -i in full or spent + c.cost > allowed:
      full.add(-i)
      continue
    ranks[-i] += 1
    spent += c.cost
  return ranks

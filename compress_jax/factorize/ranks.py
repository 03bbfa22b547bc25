"""Which rank: a number, a number below r_max, a share of the energy, a budget."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from compress_jax import checks
from compress_jax.leaves.base import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
  """A weight that is to be factorized.

  Attributes:
    path: its place in the tree.
    shape: its shape.
    full: the largest rank.
    energy: squared singular values, float64, largest first; None while tracing, see
      `known_energy`.
    cost: parameters that each rank takes.
  """

  path: str
  shape: tuple[int, ...]
  full: int
  energy: np.ndarray | None
  cost: int

  def known_energy(self) -> np.ndarray:
    """Returns the energy of each rank.

    Raises:
      ValueError: it is traced, and the ranks that it would decide are the factors' shapes.
    """
    if self.energy is None:
      raise ValueError(f"{self.path}: is traced, but energy or budget decide the factors' shapes "
                       "by it; factorize outside jit, or give a rank")
    return self.energy


def candidate(path: str, shape: tuple[int, ...], s: Array, cost: int = 1) -> Candidate:
  """Returns the candidate with these singular values.

  Args:
    path: of the weight.
    shape: of the weight.
    s: its singular values, (full rank,), largest first; may be traced.
    cost: parameters that each rank takes.

  Returns:
    The candidate.
  """
  known = checks.concrete(s)
  energy = None if known is None else known.astype(np.float64) ** 2
  return Candidate(path=path, shape=shape, full=s.size, energy=energy, cost=cost)


def max_rank(shape: tuple[int, ...]) -> int:
  """Returns r_max of a weight of this shape, rounded down.

  r_max = d_in * d_out / (d_in + d_out) is where the factors have as many
  parameters as the matrix ("Combinatorics with model compression", equation 2).

  Args:
    shape: of the weight; all axes but the last count as inputs.

  Returns:
    r_max; 0 where even rank 1 takes more parameters than the weight, or there are none.

  Example:
    >>> max_rank((448, 10))
    9
  """
  if not shape or 0 in shape:
    return 0
  outputs = shape[-1]
  inputs = math.prod(shape[:-1])
  return inputs * outputs // (inputs + outputs)


def check_one(**choices: object) -> None:
  """Checks that exactly one of several arguments is given.

  Args:
    **choices: the arguments by name, None where they are not given.

  Raises:
    ValueError: none of them, or more than one.
  """
  given = [name for name, x in choices.items() if x is not None]
  if len(given) != 1:
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
      energy per parameter, relative to its own total; none takes more than it has.

  Returns:
    One rank per weight, in order.

  Raises:
    ValueError: a number out of range; a budget that is less than rank 1
      everywhere; energy or budget for weights that are traced.
  """
  check_one(rank=rank, delta=delta, energy=energy, budget=budget)
  if rank is not None:
    checks.whole("rank", rank, 1)  # what no weight could have is no fault of the first one
    return [checked(c, rank, f"rank={rank}") for c in candidates]
  if delta is not None:
    return [_below(c, delta) for c in candidates]
  if budget is not None:
    return _for_budget(candidates, budget)
  return [for_energy(c, energy) for c in candidates]


def _below(c: Candidate, delta: int) -> int:
  """Returns the rank that is so far below r_max, if the weight can have it."""
  checks.whole("delta", delta, 0)
  rank = max_rank(c.shape) - delta
  return checked(c, rank, f"delta={delta} (rank {rank})")


def checked(c: Candidate, rank: int, shown: str) -> int:
  """Returns the rank that is asked for.

  Args:
    c: the weight.
    rank: its rank.
    shown: what was asked for, for the error.

  Raises:
    ValueError: the weight cannot have it.
  """
  if not 1 <= rank <= c.full:
    raise ValueError(f"{c.path}: {shown}: the rank of a {c.shape} weight must be a whole number "
                     f"from 1 to {c.full}")
  return rank


def for_energy(c: Candidate, energy: float | None) -> int:
  """Returns the smallest rank that keeps a share of a weight's energy.

  Args:
    c: the weight.
    energy: the share, above 0, up to 1.

  Raises:
    ValueError: it is out of range, or the weight is traced.
  """
  if energy is None or not 0 < energy <= 1:
    raise ValueError(f"energy={energy}: must be above 0, up to 1")
  energies = c.known_energy()
  total = energies.sum()
  if not total > 0:
    return 1  # nothing keeps all of a weight of zeros
  too_small = int((np.cumsum(energies) / total < energy * (1 - 1e-12)).sum())
  # A sum that rounds down never reaches its share.
  return min(too_small + 1, c.full)


def _for_budget(candidates: Sequence[Candidate], budget: float) -> list[int]:
  """Returns the ranks that a budget pays for, given out one by one, the best gain first."""
  checks.one("budget", budget, 0, 1)
  dense = sum(math.prod(c.shape) for c in candidates)
  spent, allowed = sum(c.cost for c in candidates), budget * dense
  if spent > allowed:
    raise ValueError(f"budget={budget}: rank 1 everywhere takes {spent} parameters; it must be "
                     f"from {spent / dense:.4f}")
  ranks, full = [1] * len(candidates), set()
  # Singular values fall, so the ranks of one weight come in order.
  for i in _by_gain(candidates):
    c = candidates[i]
    if i in full or spent + c.cost > allowed:
      # A later rank of the same weight would leave a gap behind.
      full.add(i)
      continue
    ranks[i] += 1
    spent += c.cost
  return ranks


def _by_gain(candidates: Sequence[Candidate]) -> list[int]:
  """Returns whose rank is given out next, and next, beyond rank 1 of each.

  The gain of a rank is the share of its weight's energy that it adds, per parameter.
  Of equal gains an earlier weight's comes first.
  """
  gains = []  # negative, since sorting puts the smallest first
  for i, c in enumerate(candidates):
    of_ranks = c.known_energy()
    total = max(of_ranks.sum(), 1e-300)  # a weight of zeros gains nothing
    # Beyond that many the factors take more than the weight itself.
    for rank in range(1, min(c.full, max_rank(c.shape))):
      gains.append((-of_ranks[rank] / total / c.cost, i))
  return [i for _, i in sorted(gains)]

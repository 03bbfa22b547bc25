"""Which plans next to an evaluated one are worth evaluating."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from compress_jax.search.evaluated import Evaluated
from compress_jax.search.predictions import Change, Key, changes, effects

BATCH = 6  # plans that are tried before looking again which one is best
_PAIRED = 400  # single changes that are also tried two at a time: 80 thousand pairs
_DRAWN_FROM = 8 * BATCH  # the most promising plans, one of which is drawn at random


def next_plans(seen: Evaluated, key: Key, rng: np.random.Generator) -> list[Key]:
  """Returns plans that differ from one in one or two layers, and were not evaluated yet.

  Args:
    seen: what was evaluated.
    key: the plan.
    rng: draws one of the plans.

  Returns:
    At most `BATCH` plans: those that promise most, and one drawn from those that
    follow; none where nothing is left.
  """
  single = changes(seen.layers, key)
  if not single:
    return []
  found = []
  for move in _ranked_moves(seen, key, single):
    new = _changed(key, move)
    if new not in seen.points:
      found.append(new)
    if len(found) == _DRAWN_FROM:
      break
  chosen = found[:BATCH - 1]
  # What is predicted is not all there is: one of each batch is left to chance.
  for drawn in rng.permutation(len(found))[:1]:
    if found[drawn] not in chosen:
      chosen.append(found[drawn])
  return chosen


def _ranked_moves(seen: Evaluated, key: Key,
                  single: list[Change]) -> Iterator[tuple[Change, ...]]:
  """Yields changes alone and two at a time, the most promising first."""
  alone = effects(seen.layers, key, single)
  promising = seen.order(key, alone)[:_PAIRED]
  first, second = _pairs(promising, single)
  together = alone[first] + alone[second]
  for place in seen.order(key, np.concatenate([alone[promising], together])):
    if place < len(promising):
      yield (single[promising[place]],)
    else:
      pair = place - len(promising)
      yield single[first[pair]], single[second[pair]]


def _pairs(some: np.ndarray, single: Sequence[Change]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first and the second change of all pairs that are of two layers."""
  first, second = (some[i] for i in np.triu_indices(len(some), 1))
  layer = np.array([change.layer for change in single])
  apart = layer[first] != layer[second]
  return first[apart], second[apart]


def _changed(key: Key, move: tuple[Change, ...]) -> Key:
  new = list(key)
  for change in move:
    new[change.layer] = change.choice
  return tuple(new)

"""The search for the best plan within limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress_jax.io import artifact
from compress_jax.search.choices import Choice, applier
from compress_jax.search.front import front
from compress_jax.search.knapsack import cheapest
from compress_jax.search.limits import Limits, Point
from compress_jax.search.sensitivity import Table, layer_bytes

_BATCH = 6       # moves tried from the best point before looking again
_PATIENCE = 3    # batches without anything better, then the search ends
_PAIRS = 400     # single changes that are also tried two at a time

Key = tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suggestion:
  """What a search found.

  Attributes:
    base: the uncompressed model.
    points: every plan that was evaluated, in that order, the base first.
    front: those of the points that no other beats in score, bytes and, if asked
      for, latency; the smallest first.
    best: the best point within the limits, or None where there is none.
    nearest: the best, or the point that is least outside the limits.
    misses: by how much the nearest misses which limit; empty where there is a best.
  """

  base: Point
  points: tuple[Point, ...]
  front: tuple[Point, ...]
  best: Point | None
  nearest: Point
  misses: dict[str, float]


def suggest(params: Any, evaluate: Callable[[Any], float], table: Table, limits: Limits, *,
            size: Callable[[Any], int] | None = None,
            latency: Callable[[Any], float] | None = None, latency_table: Table | None = None,
            nbytes: Mapping[str, Mapping[Choice, int]] | None = None,
            evaluations: int = 100, seed: int = 0) -> Suggestion:
  """Searches sparsity, bits and rank by layer for the best model within limits.

  The losses of a sensitivity table and each layer's bytes predict every plan, as if
  they added up. Plans along the front of what is predicted are evaluated, more of
  them where the limits cut it, then changes of one or two layers of the best one,
  for as long as they better it. Only what was evaluated is ever suggested.

  Args:
    params: a parameter tree.
    evaluate: from a compressed parameter tree to its score, higher is better; on
      data that nothing is reported on.
    table: from `sensitivity`, of this or any other score (log-likelihood is less
      noisy than accuracy); it only says where to look.
    limits: what the model may take.
    size: from a compressed parameter tree to bytes; by default those of its artifact.
    latency: from a compressed parameter tree to milliseconds; needed for
      `limits.max_latency_ms`.
    latency_table: `sensitivity(params, latency, choices)`, of the same choices.
    nbytes: what `layer_bytes(params, choices)` returned, where it is known already.
    evaluations: points that are evaluated, at most.
    seed: of the changes that are tried at random.

  Returns:
    Every point seen, the front, and the best or the nearest.

  Raises:
    ValueError: a limit of latency without `latency` and its table, tables of
      different choices, or fewer than two evaluations.

  Source: the future work of "An analysis of compression methods", section VIII.

  Example:
    >>> import jax
    >>> import compress_jax as cj
    >>> params = {"free": jax.random.normal(jax.random.key(0), (16, 16))}
    >>> params["dear"] = params["free"]
    >>> score = lambda p: 1 - float(abs(cj.dense(p["dear"]) - params["dear"]).mean())
    >>> choices = cj.search.options(params, sparsities=(0.0, 0.5), bits=(8,), ranks=(None,))
    >>> table = cj.search.sensitivity(params, score, choices)
    >>> found = cj.search.suggest(params, score, table, cj.search.Limits(max_drop=0.01))
    >>> str(found.best.plan["free"]), str(found.best.plan["dear"])
    ('50% 8b', '8b')
  """
  if evaluations < 2:
    raise ValueError(f"evaluations={evaluations}: may be a whole number from 2")
  _check_latency(table, limits, latency, latency_table)
  nbytes = nbytes or layer_bytes(params, {path: list(row) for path, row in table.scores.items()})
  search = _Search(params, evaluate, table, limits, size, latency, latency_table, nbytes,
                   evaluations)
  for plans, costs in search.fronts():
    search.sweep(plans, costs)
  search.refine(np.random.default_rng(seed))
  return search.result()


def _check_latency(table: Table, limits: Limits, latency: Any, other: Table | None) -> None:
  if limits.max_latency_ms is not None and (latency is None or other is None):
    raise ValueError(f"max_latency_ms={limits.max_latency_ms}: needs latency and latency_table")
  shape = lambda t: {path: list(row) for path, row in t.scores.items()}
  if other is not None and shape(other) != shape(table):
    raise ValueError("latency_table: may be of the same layers and choices as table")


class _Search:
  """The points seen so far; a plan is a tuple of each layer's place among its choices."""

  def __init__(self, params: Any, evaluate: Any, table: Table, limits: Limits, size: Any,
               latency: Any, latency_table: Table | None, nbytes: Any, evaluations: int):
    self.evaluate, self.limits, self.latency, self.room = evaluate, limits, latency, evaluations
    self.size = size or (lambda p: len(artifact.encode(p)))
    self.make, self.paths = applier(params), list(table.scores)
    self.choices = [list(row) for row in table.scores.values()]
    self.bytes = [np.array([nbytes[path][c] for c in row], float)
                  for path, row in table.scores.items()]
    # Anything gained by compressing one layer is noise that will not add up.
    self.loss = [np.maximum(0, table.base - np.array([*row.values()]))
                 for row in table.scores.values()]
    self.ms = [np.zeros(len(row)) for row in self.choices] if latency_table is None else [
        np.array([*row.values()]) - latency_table.base for row in latency_table.scores.values()]
    self.seen: dict[Key, Point] = {}
    self.start = self.visit(self._untouched())

  def _untouched(self) -> Key:
    for row in self.choices:
      if Choice() not in row:
        raise ValueError("table: every layer's choices must have the one that changes nothing")
    return tuple(row.index(Choice()) for row in self.choices)

  @property
  def left(self) -> int:
    """How many plans may still be evaluated."""
    return self.room - len(self.seen)

  def visit(self, key: Key) -> Point:
    """Returns a plan's point, evaluated at the first visit."""
    if key not in self.seen:
      plan = {path: row[i] for path, row, i in zip(self.paths, self.choices, key, strict=True)}
      params = self.make(plan)
      self.seen[key] = Point(plan=plan, score=float(self.evaluate(params)),
                             bytes=int(self.size(params)),
                             latency_ms=self.latency and float(self.latency(params)))
    return self.seen[key]

  def best(self) -> Key:
    """Returns the best plan seen."""
    return self._ranked(list(self.seen))[0]

  def _ranked(self, keys: list[Key]) -> list[Key]:
    points = [self.seen[key] for key in keys]
    score, nbytes = np.array([p.score for p in points]), np.array([p.bytes for p in points])
    ms = np.array([p.latency_ms or 0.0 for p in points])
    return [keys[i] for i in self.limits.order(score, nbytes, ms, self.start)]

  def fronts(self) -> list[tuple[list[Key], np.ndarray]]:
    """Returns predicted fronts, (plans, cost of each), for the costs that matter."""
    limits, start, out = self.limits, self.start, []
    weights = [(1.0, 0.0)] if limits.max_latency_ms is None else (
        [(0.01, 1.0)] if limits.max_bytes is None else [(1.0, 0.01), (0.5, 0.5), (0.01, 1.0)])
    for of_bytes, of_ms in weights:
      share = of_bytes / (limits.max_bytes or start.bytes)
      slow = of_ms / (limits.max_latency_ms or start.latency_ms or 1.0)
      costs = [share * b + slow * t for b, t in zip(self.bytes, self.ms, strict=True)]
      plans, total, _ = cheapest(self.loss, costs)
      out.append(([tuple(map(int, plan)) for plan in plans], total))
    return out

  def sweep(self, plans: list[Key], costs: np.ndarray) -> None:
    """Evaluates plans along a front, then between those next to the best of them."""
    room = max(2, self.room // (4 if self.limits.max_latency_ms is None else 8))
    low, high = max(costs[0], 1e-3 * costs[-1], 1e-12), max(costs[-1], 1e-12)
    visited = set(np.searchsorted(costs, np.geomspace(low, high, room)).clip(0, len(plans) - 1))
    visited = {int(i) for i in visited} | {0, len(plans) - 1}
    for i in sorted(visited)[:max(self.left, 0)]:
      self.visit(plans[i])
    for _ in range(room):
      known = sorted(i for i in visited if plans[i] in self.seen)
      middles = _middles(known, plans.index(self._ranked([plans[i] for i in known])[0])
                         ) if known else []
      if not middles or self.left < len(middles):
        return
      for i in middles:
        self.visit(plans[i])
      visited.update(middles)

  def refine(self, rng: np.random.Generator) -> None:
    """Changes one or two layers of the best plan, for as long as that betters it."""
    patience = _PATIENCE
    while self.left > 0 and patience:
      before = self.best()
      moves = self._moves(before, rng)[:self.left]
      if not moves:
        return
      for key in moves:
        self.visit(key)
      patience = _PATIENCE if self.best() != before else patience - 1

  def _moves(self, key: Key, rng: np.random.Generator) -> list[Key]:
    """Returns plans next to one that are not seen yet, the most promising first."""
    changes = self._changes(key)
    if not changes:
      return []
    delta = np.array([[part[layer][to] - part[layer][key[layer]] for part in
                       (self.loss, self.bytes, self.ms)] for layer, to in changes])
    some = np.array(self._order(key, delta)[:_PAIRS])
    first, second = (some[i] for i in np.triu_indices(len(some), 1))
    layers = np.array([layer for layer, _ in changes])
    apart = layers[first] != layers[second]
    # A change alone is a pair with the one that does nothing, which comes last.
    pairs = [*((int(i), len(changes)) for i in some),
             *zip(first[apart].tolist(), second[apart].tolist(), strict=True)]
    sums = np.vstack([delta, np.zeros(3)])[np.array(pairs)].sum(1)
    found = []
    for i in self._order(key, sums):
      new = list(key)
      for layer, to in (changes[c] for c in pairs[i] if c < len(changes)):
        new[layer] = to
      if tuple(new) not in self.seen:
        found.append(tuple(new))
      if len(found) == 8 * _BATCH:
        break
    # One of each batch is drawn: what is predicted is not all there is.
    drawn = [int(i) for i in rng.permutation(len(found))[:1]]
    return [found[i] for i in dict.fromkeys([*range(min(_BATCH - 1, len(found))), *drawn])]

  def _changes(self, key: Key) -> list[tuple[int, int]]:
    """Returns the single changes (layer, choice) that something speaks for."""
    out = []
    for layer, parts in enumerate(zip(self.loss, self.bytes, self.ms, strict=True)):
      out += [(layer, i) for i in front(np.column_stack(parts)) if i != key[layer]]
    return out

  def _order(self, key: Key, delta: np.ndarray) -> np.ndarray:
    """Returns the places of changes, by what they would make of a plan, best first."""
    point = self.seen[key]
    return self.limits.order(point.score - self._rate() * delta[:, 0], point.bytes + delta[:, 1],
                             (point.latency_ms or 0.0) + delta[:, 2], self.start)

  def _rate(self) -> float:
    """Returns the score that is lost for each unit of loss in the table."""
    predicted = np.array([sum(row[i] for row, i in zip(self.loss, key, strict=True))
                          for key in self.seen])
    lost = self.start.score - np.array([p.score for p in self.seen.values()])
    some = predicted > 0
    rate = float(np.median(lost[some] / predicted[some])) if some.any() else 1.0
    return rate if rate > 0 else 1e-6

  def result(self) -> Suggestion:
    """Returns what was found."""
    points = tuple(self.seen.values())
    costs = [(p.bytes, -p.score, p.latency_ms or 0.0) for p in points]
    nearest = self.seen[self.best()]
    misses = self.limits.misses(nearest, self.start)
    return Suggestion(base=self.start, points=points, front=tuple(points[i] for i in front(costs)),
                      best=None if misses else nearest, nearest=nearest, misses=misses)


def _middles(known: list[int], best: int) -> list[int]:
  """Returns the places halfway from the best to its known neighbours."""
  at = known.index(best)
  ends = known[max(0, at - 1):at] + known[at + 1:at + 2]
  return [(end + best) // 2 for end in ends if abs(end - best) > 1]

"""The search for the best plan within limits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from compress_jax import checks
from compress_jax.io import artifact
from compress_jax.search.choices import Choice, applier
from compress_jax.search.evaluated import Allowance, Evaluated, Measures
from compress_jax.search.front import front
from compress_jax.search.limits import Limits, Point
from compress_jax.search.moves import next_plans
from compress_jax.search.predictions import Front, predicted_fronts, predicted_layers
from compress_jax.search.sensitivity import Table, layer_bytes

_PATIENCE = 3  # batches of moves without anything better, then the search ends


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suggestion:
  """What a search found.

  Attributes:
    base: the uncompressed model.
    points: every plan that was evaluated, in that order, the base first.
    front: those of the points that no other beats in score, bytes and, if asked
      for, latency; the smallest first. Points without a finite score are not among them.
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
      different choices, fewer than two evaluations, or a score of the uncompressed model
      that is no finite number.

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
  checks.whole("evaluations", evaluations, 2)
  _check_latency(table, limits, latency, latency_table)
  if not nbytes:
    nbytes = layer_bytes(params, _choices(table))
  layers = predicted_layers(table, nbytes, latency_table)
  measures = Measures(compress=applier(params), evaluate=evaluate, size=size or _artifact_bytes,
                      latency=latency)
  seen = Evaluated(measures, layers, Allowance(limits=limits, evaluations=evaluations))
  for predicted in predicted_fronts(layers, limits, seen.base):
    _sweep(seen, predicted)
  _refine(seen, np.random.default_rng(seed))
  return _suggestion(seen)


def _check_latency(table: Table, limits: Limits, latency: Any, other: Table | None) -> None:
  if limits.max_latency_ms is not None and (latency is None or other is None):
    raise ValueError(f"max_latency_ms={limits.max_latency_ms}: needs latency and latency_table")
  if other is not None and _choices(other) != _choices(table):
    raise ValueError("latency_table: must be of the same layers and choices as table")


def _choices(table: Table) -> dict[str, list[Choice]]:
  return {path: list(row) for path, row in table.scores.items()}


def _artifact_bytes(params: Any) -> int:
  return len(artifact.encode(params))


def _sweep(seen: Evaluated, predicted: Front) -> None:
  """Evaluates plans along a predicted front, then more between those next to the best."""
  # One front gets a quarter of all evaluations at first; of three, each an eighth.
  share = 4 if seen.allowed.limits.max_latency_ms is None else 8
  count = max(2, seen.allowed.evaluations // share)
  places = _spread(predicted.costs, count)
  # The cheapest first: where evaluations run out, small models are known at least.
  for i in sorted(places)[:max(seen.left, 0)]:
    seen.visit(predicted.plans[i])
  # Each pass halves the distance to the best one's neighbors: it ends by itself, and soon.
  for _ in range(count):
    known = sorted(i for i in places if predicted.plans[i] in seen.points)
    if not known:
      return
    best = predicted.plans.index(seen.best_of([predicted.plans[i] for i in known]))
    # The best plan lies between its neighbors, if predictions are any good: look there.
    middles = _middles(known, best)
    if not middles or seen.left < len(middles):
      return  # nothing lies between, or only one side of the best could be paid for
    for i in middles:
      seen.visit(predicted.plans[i])
    places.update(middles)


def _spread(costs: np.ndarray, count: int) -> set[int]:
  """Returns places along rising costs at even ratios, about `count` of them, and both ends."""
  # A plan that costs nothing, or next to nothing, would stretch the ratios without end.
  low, high = max(costs[0], 1e-3 * costs[-1], 1e-12), max(costs[-1], 1e-12)
  places = np.searchsorted(costs, np.geomspace(low, high, count)).clip(0, len(costs) - 1)
  return {0, len(costs) - 1, *places.tolist()}


def _middles(known: list[int], best: int) -> list[int]:
  """Returns the places halfway from the best to its known neighbors."""
  at = known.index(best)
  neighbors = known[max(0, at - 1):at] + known[at + 1:at + 2]
  return [(i + best) // 2 for i in neighbors if abs(i - best) > 1]


def _refine(seen: Evaluated, rng: np.random.Generator) -> None:
  """Changes one or two layers of the best plan, for as long as that betters it."""
  patience = _PATIENCE
  while seen.left > 0 and patience:
    before = seen.best()
    plans = next_plans(seen, before, rng)[:seen.left]
    if not plans:
      return
    for key in plans:
      seen.visit(key)
    patience = _PATIENCE if seen.best() != before else patience - 1


def _suggestion(seen: Evaluated) -> Suggestion:
  points = tuple(seen.points.values())
  scored = [p for p in points if np.isfinite(p.score)]
  costs = [(p.bytes, -p.score, p.latency_ms or 0.0) for p in scored]
  nearest = seen.points[seen.best()]
  misses = seen.allowed.limits.misses(nearest, seen.base)
  return Suggestion(base=seen.base, points=points, front=tuple(scored[i] for i in front(costs)),
                    best=None if misses else nearest, nearest=nearest, misses=misses)

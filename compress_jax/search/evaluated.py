"""The plans that a search has evaluated, and how they compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress_jax.search.choices import Plan
from compress_jax.search.limits import Limits, Point
from compress_jax.search.predictions import BYTES, LOSS, MS, Key, Layer, predicted_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
  """What measures a plan.

  Attributes:
    compress: from a plan to a compressed parameter tree.
    evaluate: from that tree to the score, higher is better.
    size: from that tree to bytes.
    latency: from that tree to milliseconds; None measures no time.
  """

  compress: Callable[[Plan], Any]
  evaluate: Callable[[Any], float]
  size: Callable[[Any], int]
  latency: Callable[[Any], float] | None

  def point(self, plan: Plan) -> Point:
    """Returns a plan with all its measurements; raises where its time is not a number."""
    params = self.compress(plan)
    score, nbytes = float(self.evaluate(params)), int(self.size(params))
    ms = None if self.latency is None else float(self.latency(params))
    if ms is not None and not np.isfinite(ms):
      raise ValueError(f"latency returned {ms}: must return finite milliseconds")
    return Point(plan=plan, score=score, bytes=nbytes, latency_ms=ms)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
  """What a model may take, and what the search for it may.

  Attributes:
    limits: of the model.
    evaluations: plans that may be evaluated.
  """

  limits: Limits
  evaluations: int


class Evaluated:
  """Every plan evaluated so far, in order; the untouched model is the first.

  Attributes:
    layers: what is predicted of each layer.
    allowed: limits of the model and of the search.
    points: {key: point}, in the order of evaluation.
    base: the point of the untouched model.
  """

  def __init__(self, measures: Measures, layers: Sequence[Layer], allowed: Allowance):
    self._measures, self.layers, self.allowed = measures, layers, allowed
    self.points: dict[Key, Point] = {}
    self.base = self.visit(tuple(layer.untouched for layer in layers))
    if not np.isfinite(self.base.score):
      raise ValueError(f"evaluate returned {self.base.score} for the uncompressed model: must "
                       "return a finite number")

  @property
  def left(self) -> int:
    """How many plans may still be evaluated."""
    return self.allowed.evaluations - len(self.points)

  def visit(self, key: Key) -> Point:
    """Returns a plan's point, evaluated at the first visit."""
    if key not in self.points:
      plan = {layer.path: layer.choices[i] for layer, i in zip(self.layers, key, strict=True)}
      self.points[key] = self._measures.point(plan)
    return self.points[key]

  def best(self) -> Key:
    """Returns the best plan of all."""
    return self.best_of(list(self.points))

  def best_of(self, keys: Sequence[Key]) -> Key:
    """Returns the best of some plans that were evaluated; the first of equal ones."""
    points = [self.points[key] for key in keys]
    order = self.allowed.limits.order(
        np.array([p.score for p in points]), np.array([p.bytes for p in points]),
        np.array([p.latency_ms or 0.0 for p in points]), self.base)
    return keys[order[0]]

  def order(self, key: Key, effects: np.ndarray) -> np.ndarray:
    """Returns the places of changes by the plans that they are predicted to make, best first.

    Args:
      key: the plan that is changed, evaluated.
      effects: (changes, 3), what each adds to the plan's loss, bytes and milliseconds.
    """
    point = self.points[key]
    score = point.score - self._exchange_rate() * effects[:, LOSS]
    ms = (point.latency_ms or 0.0) + effects[:, MS]
    return self.allowed.limits.order(score, point.bytes + effects[:, BYTES], ms, self.base)

  def _exchange_rate(self) -> float:
    """Returns the score that was lost for each unit of loss that the table predicts.

    The table may be of another number than the score (a log-likelihood, say), and
    losses do not quite add up.
    """
    predicted = np.array([predicted_loss(self.layers, key) for key in self.points])
    lost = self.base.score - np.array([point.score for point in self.points.values()])
    some = (predicted > 0) & np.isfinite(lost)
    if not some.any():
      return 1.0
    rate = float(np.median(lost[some] / predicted[some]))
    # Where half of the plans lost nothing, of two plans the table's loss decides all the same.
    return rate if rate > 0 else 1e-6

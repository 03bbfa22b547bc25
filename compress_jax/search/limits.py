"""What a device and a person allow, and how near to it a model is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from compress_jax.search.choices import Choice

_ROUNDING = 1e-9  # in floats, 0.97 - 0.96 is more than 0.01: no limit is missed by less


@dataclasses.dataclass(frozen=True, kw_only=True)
class Point:
  """A plan and what was measured of it.

  Attributes:
    plan: {path: choice}.
    score: what the evaluation returned; higher is better.
    bytes: of the artifact.
    latency_ms: milliseconds, or None where it was not asked for.
  """

  plan: Mapping[str, Choice]
  score: float
  bytes: int
  latency_ms: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What a compressed model may take; at least one of the three is given.

  With a limit on bytes or time the best model is the one of the highest score
  within all limits; with `max_drop` alone, the one of the fewest bytes.

  Attributes:
    max_bytes: of the artifact.
    max_latency_ms: milliseconds.
    max_drop: of the score, below the uncompressed model's.

  Raises:
    ValueError: no limit, or one below 0.

  Example:
    >>> base = Point(plan={}, score=0.9, bytes=1000)
    >>> Limits(max_bytes=100).misses(Point(plan={}, score=0.8, bytes=120), base)
    {'max_bytes': 20.0}
  """

  max_bytes: int | None = None
  max_latency_ms: float | None = None
  max_drop: float | None = None

  def __post_init__(self) -> None:
    given = dataclasses.asdict(self)
    if all(value is None for value in given.values()):
      raise ValueError("max_bytes, max_latency_ms, max_drop: give at least one of them")
    for name, value in given.items():
      if value is not None and not value >= 0:
        raise ValueError(f"{name}={value}: must be None, or from 0")

  @property
  def hardware(self) -> bool:
    """Whether bytes or time are limited, so that the score decides within the limits."""
    return self.max_bytes is not None or self.max_latency_ms is not None

  def misses(self, point: Point, base: Point) -> dict[str, float]:
    """Returns by how much a point misses each limit that it does not keep.

    Args:
      point: the point.
      base: the uncompressed model.

    Returns:
      {limit: bytes, milliseconds or score too many}; empty within all limits. A score
      that is no finite number misses "score", by infinity.
    """
    over = self._over(base.score - point.score, point.bytes, point.latency_ms)
    return {name: float(x) for name, x in over.items() if x > _ROUNDING}

  def excess(self, drop: Any, nbytes: Any, ms: Any, base: Point) -> Any:
    """Returns how far models are outside the limits, as one number each.

    Args:
      drop: of the score, below the uncompressed model's: a number or an array.
      nbytes: of the artifacts, likewise.
      ms: milliseconds, likewise.
      base: the uncompressed model.

    Returns:
      0 within all limits. Bytes and time count as fractions of their limit, the drop
      as a fraction of the uncompressed model's score; they are added up. Infinite where
      the drop is no finite number.
    """
    # The allowed drop may be 0, so it cannot be its own unit.
    units = {"max_bytes": self.max_bytes, "max_latency_ms": self.max_latency_ms,
             "max_drop": abs(base.score), "score": 1}
    total = 0
    for name, x in self._over(drop, nbytes, ms).items():
      outside = np.where(np.asarray(x) > _ROUNDING, x, 0)
      total = total + outside / max(units[name], _ROUNDING)
    return total

  def order(self, score: Any, nbytes: Any, ms: Any, base: Point) -> np.ndarray:
    """Returns the places of points, best first, by what the class says is best.

    Args:
      score: float array, (points,).
      nbytes: of the artifacts, (points,).
      ms: milliseconds, (points,).
      base: the uncompressed model.

    Returns:
      int array, (points,); points outside the limits come last, the nearest first.
    """
    outside = self.excess(base.score - score, nbytes, ms, base)
    # lexsort's last key decides first.
    if self.hardware:
      return np.lexsort((nbytes, -score, outside))
    return np.lexsort((-score, nbytes, outside))

  def _over(self, drop: Any, nbytes: Any, ms: Any) -> dict[str, Any]:
    """Returns what is above each limit that is given; below it, negative."""
    # A model that diverged is outside of any limits; a comparison with NaN would not say so.
    over: dict[str, Any] = {"score": np.where(np.isfinite(drop), 0.0, np.inf)}
    if self.max_bytes is not None:
      over["max_bytes"] = nbytes - self.max_bytes
    if self.max_drop is not None:
      over["max_drop"] = drop - self.max_drop
    if self.max_latency_ms is not None:
      over["max_latency_ms"] = ms - self.max_latency_ms
    return over

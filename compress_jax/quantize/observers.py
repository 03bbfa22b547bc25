"""Observers: from what was seen at one place to the range that a grid covers.

An observer is called as `observer(seen, bits, symmetric)` and returns (low, high).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax.leaves import grid
from compress_jax.leaves.base import Array


@dataclasses.dataclass(frozen=True)
class Seen:
  """What went into a layer, batch by batch.

  Attributes:
    low: float32, (batches,), the smallest value of each.
    high: float32, (batches,), the largest.
    counts: int32, (batches, bins): histograms between a batch's low and high.
  """

  low: Array
  high: Array
  counts: Array

  def samples(self) -> tuple[Array, Array]:
    """Returns the bins' centres and how many values each stands for, as two vectors."""
    bins = self.counts.shape[1]
    at = (jnp.arange(bins) + 0.5) / bins
    centres = self.low[:, None] + at * (self.high - self.low)[:, None]
    return centres.ravel(), self.counts.ravel().astype(jnp.float32)


jax.tree_util.register_dataclass(Seen)


def see(x: Array, bins: int) -> Seen:
  """Returns what there is to see of one batch.

  Args:
    x: float array.
    bins: of the histogram; 0 makes none.

  Returns:
    `Seen` of a single batch.

  Example:
    >>> see(jnp.array([0.0, 1.0, 4.0]), bins=2).counts.tolist()
    [[2, 1]]
  """
  x = x.ravel().astype(jnp.float32)
  low, high = x.min(), x.max()
  index = jnp.floor((x - low) / jnp.where(high > low, high - low, 1.0) * bins)
  index = jnp.clip(index, 0, max(bins - 1, 0)).astype(jnp.int32)
  counts = jnp.zeros(bins, jnp.int32).at[index].add(1) if bins else jnp.zeros(0, jnp.int32)
  return Seen(low[None], high[None], counts[None])


@dataclasses.dataclass(frozen=True)
class MinMax:
  """The whole range (Jacob et al. 2018, section 3).

  Example:
    >>> low, high = MinMax()(see(jnp.array([-1.0, 3.0]), bins=0), 8, False)
    >>> float(low), float(high)
    (-1.0, 3.0)
  """

  bins: int = 0

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    return seen.low.min(), seen.high.max()


@dataclasses.dataclass(frozen=True)
class MovingAverage:
  """The exponential moving average of the batches' ranges (Jacob et al. 2018, section 3.1).

  Attributes:
    decay: of the average, 0 to 1; the first batch starts it.
  """

  decay: float = 0.9
  bins: int = 0

  def __post_init__(self):
    if not 0 <= self.decay < 1:
      raise ValueError(f"decay={self.decay}: may be from 0 up to, not including, 1")

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    count = seen.low.size
    ages = jnp.arange(count - 1, -1, -1)
    weights = self.decay**ages * jnp.where(ages == count - 1, 1.0, 1 - self.decay)
    return (weights * seen.low).sum(), (weights * seen.high).sum()


@dataclasses.dataclass(frozen=True)
class Percentile:
  """The range that holds most values (Wu et al. 2020, "Integer quantization", section 5.2).

  Attributes:
    percent: of the values inside, from either end; above 50, up to 100.
    bins: of a batch's histogram, which bounds the error.
  """

  percent: float = 99.99
  bins: int = 2048

  def __post_init__(self):
    if not 50 < self.percent <= 100:
      raise ValueError(f"percent={self.percent}: may be above 50, up to 100")

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    if self.percent == 100:
      return seen.low.min(), seen.high.max()
    values, counts = seen.samples()
    if symmetric:
      high = _quantile(jnp.abs(values), counts, self.percent / 100)
      return -high, high
    return (_quantile(values, counts, 1 - self.percent / 100),
            _quantile(values, counts, self.percent / 100))


@dataclasses.dataclass(frozen=True)
class MeanSquaredError:
  """The part of the range whose grid rounds and clips with the least squared error.

  Searched over even fractions of the range (Nagel et al. 2021, "A white paper on
  neural network quantization", section 3.1).

  Attributes:
    fractions: how many are tried.
    bins: of a batch's histogram.
  """

  fractions: int = 100
  bins: int = 2048

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    values, counts = seen.samples()
    low, high = seen.low.min(), seen.high.max()

    def error(fraction: Array) -> Array:
      scale, zero_point = grid.affine(fraction * low, fraction * high, bits, symmetric)
      rounded = grid.quantize_to_grid(values, scale, zero_point, bits) * scale
      return (counts * (values - rounded) ** 2).sum()

    fractions = jnp.arange(1, self.fractions + 1) / self.fractions
    best = fractions[jnp.argmin(jax.lax.map(error, fractions))]
    return best * low, best * high


def _quantile(values: Array, counts: Array, fraction: float) -> Array:
  """Returns the smallest value with at least this fraction of all at or below it."""
  order = jnp.argsort(values)
  share = jnp.cumsum(counts[order].astype(jnp.int32)) / counts.sum()
  return values[order][jnp.clip(jnp.searchsorted(share, fraction), 0, values.size - 1)]

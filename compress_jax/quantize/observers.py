"""Observers: from what was seen at one place to the range that a grid covers.

An observer is called as `observer(seen, bits, symmetric)`: with what was seen, the bits of
the grid and whether it is symmetric about zero. It returns (low, high), float32 scalars.
Its `bins` say how fine a histogram of every batch it needs; 0 is none.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax import checks
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
  counts = jnp.zeros(bins, jnp.int32)
  if bins:
    span = jnp.where(high > low, high - low, 1.0)  # 1 where all values are alike
    index = jnp.floor((x - low) / span * bins)
    # The largest value lies on the edge behind the last bin.
    index = jnp.clip(index, 0, bins - 1).astype(jnp.int32)
    counts = counts.at[index].add(1)
  return Seen(low[None], high[None], counts[None])


@dataclasses.dataclass(frozen=True)
class MinMax:
  """The whole range (Jacob et al. 2018, section 3).

  Attributes:
    bins: 0, as it needs no histogram.

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
    decay: of the average, from 0 to below 1; the first batch starts it.
    bins: 0, as it needs no histogram.

  Raises:
    ValueError: decay out of range.
  """

  decay: float = 0.9
  bins: int = 0

  def __post_init__(self):
    if not 0 <= self.decay < 1:
      raise ValueError(f"decay={self.decay}: must be from 0 up to, not including, 1")

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    # Every batch after the first enters with 1 - decay, and all fade with age.
    oldest = seen.low.size - 1
    ages = jnp.arange(oldest, -1, -1)
    weights = self.decay**ages * jnp.where(ages == oldest, 1.0, 1 - self.decay)
    return (weights * seen.low).sum(), (weights * seen.high).sum()


@dataclasses.dataclass(frozen=True)
class Percentile:
  """The range that holds most values (Wu et al. 2020, "Integer quantization", section 5.2).

  Attributes:
    percent: of the values inside, from either end; above 50, up to 100.
    bins: of each batch's histogram; a bin is the most that the range is off.

  Raises:
    ValueError: percent out of range, or no bins.
  """

  percent: float = 99.99
  bins: int = 2048

  def __post_init__(self):
    if not 50 < self.percent <= 100:
      raise ValueError(f"percent={self.percent}: must be above 50, up to 100")
    checks.whole("bins", self.bins, 1)

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    # A histogram knows its ends only to within half a bin.
    if self.percent == 100:
      return seen.low.min(), seen.high.max()
    inside = self.percent / 100
    values, counts = seen.samples()
    if symmetric:
      high = _quantile(jnp.abs(values), counts, inside)
      return -high, high
    return _quantile(values, counts, 1 - inside), _quantile(values, counts, inside)


@dataclasses.dataclass(frozen=True)
class MeanSquaredError:
  """The part of the range whose grid rounds and clips with the least squared error.

  Searched over even fractions of the range (Nagel et al. 2021, "A white paper on
  neural network quantization", section 3.1).

  Attributes:
    fractions: how many are tried.
    bins: of each batch's histogram, on which the error is measured.

  Raises:
    ValueError: there are none of them.
  """

  fractions: int = 100
  bins: int = 2048

  def __post_init__(self):
    checks.whole("fractions", self.fractions, 1)
    checks.whole("bins", self.bins, 1)

  def __call__(self, seen: Seen, bits: Array | int, symmetric: bool) -> tuple[Array, Array]:
    values, counts = seen.samples()
    low, high = seen.low.min(), seen.high.max()

    def error(fraction: Array) -> Array:
      scale, zero_point = grid.affine(fraction * low, fraction * high, bits, symmetric)
      rounded = grid.quantize_to_grid(values, scale, zero_point, bits) * scale
      return (counts * (values - rounded) ** 2).sum()

    # One after the other: all at once would take `fractions` times the histogram's memory.
    fractions = jnp.arange(1, self.fractions + 1) / self.fractions
    best = fractions[jnp.argmin(jax.lax.map(error, fractions))]
    return best * low, best * high


def _quantile(values: Array, counts: Array, fraction: float) -> Array:
  """Returns the smallest value with at least this fraction of all at or below it."""
  counts = counts[jnp.argsort(values)]
  values, total = jnp.sort(values), counts.sum()
  exact = jnp.cumsum(counts.astype(jnp.int32)) / total
  # Of more values than an int32 counts, shares are added up, each rounded.
  share = jnp.where(total < 2.0**31, exact, jnp.cumsum(counts / total))
  return values[jnp.clip(jnp.searchsorted(share, fraction), 0, values.size - 1)]

"""Frequency tables: smooth where that is cheaper than one number per symbol.

A table is a curve of log2 frequencies: levels at knots 2**shift symbols apart,
straight lines between them. Gaussians, Laplacians and what quantizers make of them
take a handful of knots; shift 0 is a plain histogram. Weights follow from levels in
integer arithmetic, so that every machine computes the same ones.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from compress_jax.io.coding.stream import LARGEST_SIZE, CodingError, Reader, Writer

# Part of the format, as all that `_exp2` and `_DIFFERENCES` compute from them.
RANGE = 22  # bits between the most and the least frequent symbol
STEPS = (1, 2, 3, 4)  # a level counts 2**-step bits
_SHIFTS = 17  # 0 to 16: up to knots as far apart as the largest alphabet
_KNOTS = 65  # fitted at most; beyond, only the plain histogram is tried

_PLACES = 200  # binary ones, of the numbers that powers are computed in


def _powers() -> np.ndarray:
  """Returns floor(2**(12 + i / 256)), i = 0 to 255: roots of whole numbers, not `exp2`.

  Libraries round `exp2` each in their own way, and no two may make different tables.
  """
  root = 2 << _PLACES
  for _ in range(8):  # the square root of 2, eight times over: 2**(1 / 256)
    root = math.isqrt(root << _PLACES)
  power, out = 1 << _PLACES, []
  for _ in range(256):
    out.append(power >> (_PLACES - 12))
    power = power * root >> _PLACES
  return np.array(out, np.int64)


_POWERS = _powers()


def _exp2(x: np.ndarray) -> np.ndarray:
  """Returns about 2**(12 + x / 256) as whole float64; x is int64, 0 to 256 * RANGE."""
  return (_POWERS[x & 255] << (x >> 8)).astype(np.float64)


# A difference of neighboring levels falls off by half every so many levels.
_HALVINGS = (0.25, 0.5, 1, 2, 4, 8, 16, 64)


def _difference_weights(choice: int, step: int) -> np.ndarray:
  """Returns the weights of differences from -top to top."""
  top = RANGE << step
  fall = np.abs(np.arange(-top, top + 1)) * int(256 / _HALVINGS[choice])
  return _exp2(np.maximum(256 * RANGE - fall, 0))


# {(place in _HALVINGS, step): weights}.
_DIFFERENCES: dict[tuple[int, int], np.ndarray] = {
    key: _difference_weights(*key) for key in itertools.product(range(len(_HALVINGS)), STEPS)}


def _difference_bits(step: int) -> np.ndarray:
  """Returns the bits that each difference takes by its weight, one row per halving."""
  weights = np.stack([_DIFFERENCES[choice, step] for choice in range(len(_HALVINGS))])
  return -np.log2(weights / weights.sum(1, keepdims=True))


_DIFFERENCE_BITS = {step: _difference_bits(step) for step in STEPS}


def _knots(low: int, high: int, shift: int) -> int:
  """Returns how many knots symbols `low` to `high` need; knots are multiples of 2**shift."""
  return -(-high >> shift) - (low >> shift) + 1


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
  """Frequencies of the symbols `low` to `high`.

  Attributes:
    low: smallest symbol.
    high: largest symbol.
    shift: knots are 2**shift symbols apart.
    step: a level counts 2**-step bits.
    levels: int64, one per knot, 0 to RANGE << step.

  Example:
    >>> table = fit(np.array([1, 2, 1]), -1)
    >>> table.weights() / table.weights().sum()
    array([0.25, 0.5 , 0.25])
  """

  low: int
  high: int
  shift: int
  step: int
  levels: np.ndarray

  def weights(self) -> np.ndarray:
    """Returns whole numbers (float64) proportional to the symbols' frequencies."""
    if self.low == self.high:
      return np.ones(1)
    knot, fraction = _placed(self.low, self.high, self.shift)
    size, levels = 1 << self.shift, self.levels
    # At shift 0, and on the last knot, the fraction is 0 and there is no next knot.
    after = levels[np.minimum(knot + 1, len(levels) - 1)]
    line = levels[knot] * (size - fraction) + after * fraction
    return _exp2((line << (8 - self.step)) >> self.shift)

  def bits(self, counts: np.ndarray, bounds: tuple[int, int]) -> float:
    """Returns the bits of the table and of symbols that it codes.

    Args:
      counts: float64, how often `low` to `high` occur.
      bounds: as for `write`.
    """
    ends = math.log2(bounds[1] - bounds[0] + 1) + math.log2(bounds[1] - self.low + 1)
    if self.low == self.high:
      return ends
    weights, used = self.weights(), np.flatnonzero(counts)
    # Logarithms take most of the time, and of a large alphabet few symbols occur.
    body = float(counts[used] @ (math.log2(weights.sum()) - np.log2(weights[used])))
    return ends + body + math.log2(_SHIFTS * len(STEPS) * len(_HALVINGS)) + self._side()[1]

  def _side(self) -> tuple[int, float]:
    """Returns how differences of levels are best coded, and the bits of all levels."""
    top, moves = RANGE << self.step, np.diff(self.levels)
    costs = _DIFFERENCE_BITS[self.step][:, moves + top].sum(1)
    best = int(np.argmin(costs))
    return best, float(costs[best]) + math.log2(top + 1)

  def write(self, writer: Writer, bounds: tuple[int, int]) -> None:
    """Writes the table.

    Args:
      writer: the stream.
      bounds: the smallest and the largest symbol there may be, which the reader knows.
    """
    writer.uniform(self.low - bounds[0], bounds[1] - bounds[0] + 1)
    writer.uniform(self.high - self.low, bounds[1] - self.low + 1)
    if self.low == self.high:
      return
    choice, top = self._side()[0], RANGE << self.step
    writer.uniform(self.shift, _SHIFTS)
    writer.uniform(self.step - STEPS[0], len(STEPS))
    writer.uniform(choice, len(_HALVINGS))
    writer.uniform(self.levels[0], top + 1)
    writer.symbols(np.diff(self.levels) + top, _DIFFERENCES[choice, self.step])


def read(reader: Reader, bounds: tuple[int, int]) -> Table:
  """Reads what `Table.write` wrote.

  Args:
    reader: the stream.
    bounds: as given to `Table.write`.

  Returns:
    The table.

  Raises:
    CodingError: no table.
  """
  low = bounds[0] + reader.uniform(bounds[1] - bounds[0] + 1)
  high = low + reader.uniform(bounds[1] - low + 1)
  if low == high:
    return Table(low, high, 0, STEPS[0], np.zeros(1, np.int64))
  shift, step = reader.uniform(_SHIFTS), STEPS[0] + reader.uniform(len(STEPS))
  choice, top = reader.uniform(len(_HALVINGS)), RANGE << step
  first = reader.uniform(top + 1)
  moves = reader.symbols(_DIFFERENCES[choice, step], _knots(low, high, shift) - 1) - top
  levels = np.cumsum(np.concatenate([[first], moves]), dtype=np.int64)
  if levels.min() < 0 or levels.max() > top:
    raise CodingError(f"a table's level {levels.max()}; must be 0 to {top}")
  return Table(low, high, shift, step, levels)


def fit(counts: np.ndarray, low: int, bounds: tuple[int, int] | None = None) -> Table:
  """Returns the table that codes symbols in the fewest bits, itself included.

  Args:
    counts: whole numbers, how often `low`, `low + 1`, ... occur; some do.
    low: the first symbol.
    bounds: as for `Table.write`; by default the symbols that occur.

  Returns:
    The table, of the symbols that occur and those between them.

  Raises:
    ValueError: more than 65536 symbols.

  Example:
    >>> fit(np.array([0, 7, 0]), 0).low
    1
  """
  used = np.flatnonzero(counts)
  counts, low = counts[used[0]:used[-1] + 1].astype(np.float64), low + int(used[0])
  high = low + len(counts) - 1
  if len(counts) > LARGEST_SIZE:
    raise ValueError(f"counts of {len(counts)} symbols; must be 1 to {LARGEST_SIZE}")
  if low == high:
    return Table(low, high, 0, STEPS[0], np.zeros(1, np.int64))
  bounds = bounds or (low, high)
  # What does not occur in between gets a third of an occurrence: a weight cannot be 0.
  plain = _rounded(np.log2(np.maximum(counts, 0.3)), low, high, 0)
  candidates = _with_bits(plain, counts, bounds)
  # Of fewer symbols a curve has no fewer levels.
  if len(counts) > 4:
    candidates += _smooth(counts, low, high, bounds)
  return min(candidates, key=lambda candidate: candidate[0])[1]


def _with_bits(tables: list[Table], counts: np.ndarray,
               bounds: tuple[int, int]) -> list[tuple[float, Table]]:
  """Returns (bits, table) of each: what it and the symbols take."""
  return [(table.bits(counts, bounds), table) for table in tables]


def _smooth(counts: np.ndarray, low: int, high: int,
            bounds: tuple[int, int]) -> list[tuple[float, Table]]:
  """Returns tables of ever more knots with their bits, until more do not pay twice in a row."""
  found, best, in_vain = [], math.inf, 0
  for shift in range((high - low).bit_length(), 0, -1):
    if in_vain == 2 or _knots(low, high, shift) > _KNOTS:
      break
    tables = _rounded(_curve(counts, low, high, shift), low, high, shift)
    candidates = _with_bits(tables, counts, bounds)
    found += candidates
    bits = min(bits for bits, _ in candidates)
    if bits < best:
      best, in_vain = bits, 0
    else:
      in_vain += 1
  return found


def _rounded(log2s: np.ndarray, low: int, high: int, shift: int) -> list[Table]:
  """Returns one table per step, with levels as near to these as the step allows."""
  # The lowest level is 0; what is rarer than RANGE below the highest is raised to that.
  log2s = np.maximum(log2s - max(log2s.max() - RANGE, log2s.min()), 0)
  tables = []
  for step in STEPS:
    levels = np.clip(np.rint(log2s * 2**step), 0, RANGE << step).astype(np.int64)
    tables.append(Table(low, high, shift, step, levels))
  return tables


def _placed(low: int, high: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns each symbol's knot and its distance from it."""
  offset = np.arange(low, high + 1) - ((low >> shift) << shift)
  return offset >> shift, offset & ((1 << shift) - 1)


def _curve(counts: np.ndarray, low: int, high: int, shift: int) -> np.ndarray:
  """Returns log2 frequencies at the knots: the likeliest curve, by Newton's method.

  The model's log-frequencies are linear in the levels at the knots, so the likelihood
  is concave: its gradient is the counts' share at each knot less the model's.
  """
  n = _knots(low, high, shift)
  knot, part = _placed(low, high, shift)
  part = part / (1 << shift)
  after = np.minimum(knot + 1, n - 1)

  def spread(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns sums at the knots: of `x` at each symbol's own knot, of `y` at the next."""
    return np.bincount(knot, x, n) + np.bincount(after, y, n)

  counts = counts + 0.3 * n / len(counts)  # keeps curves finite where nothing occurs
  total, target = counts.sum(), spread(counts * (1 - part), counts * part)
  curve = np.log(target / spread(1 - part, part))
  for _ in range(8):
    line = curve[knot] * (1 - part) + curve[after] * part
    p = np.exp(np.minimum(line, 700) - curve.max())  # 700: exp overflows beyond
    p /= p.sum()
    mean = spread(p * (1 - part), p * part)
    hessian = np.diag(spread(p * (1 - part)**2, p * part**2) + 1e-9) - np.outer(mean, mean)
    beside = np.bincount(knot, p * part * (1 - part), n)[:-1]
    hessian += np.diag(beside, 1) + np.diag(beside, -1)
    # Least squares, as adding a constant to all levels changes nothing: it is singular.
    move = np.linalg.lstsq(hessian, target / total - mean, rcond=1e-10)[0]
    # Far from the top of the likelihood a full step would leave it behind.
    curve += np.clip(move, -2, 2)
    if np.abs(move).max() < 0.01:
      break
  return (curve - curve.max()) / math.log(2)

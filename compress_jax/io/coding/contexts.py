"""Contexts: which of several tables codes an element, by where in the array it lies.

Channels that look alike share a class; an element's context is the class of its
output, of its input and of its place in the window, as far as each pays.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

MOST = 64  # contexts of an array
_CLASSES = (2, 4, 8, 16)
_BUCKETS = 64  # of symbols, while searching


def view(shape: tuple[int, ...]) -> tuple[int, int, int]:
  """Returns a shape's (window, inputs, outputs); absent axes are 1.

  Example:
    >>> view((3, 3, 16, 32)), view((10,))
    ((9, 16, 32), (1, 1, 10))
  """
  shape = (1, 1, *shape) if len(shape) < 2 else (1, *shape)
  return math.prod(shape[:-2]), shape[-2], shape[-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
  """The class of each index, for each of the three axes of `view`.

  Attributes:
    of: three uint8 vectors, or None for an axis that does not matter.
  """

  of: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None] = (None, None, None)

  def count(self) -> int:
    """Returns the number of contexts."""
    return math.prod(int(x.max()) + 1 for x in self.of if x is not None)

  def contexts(self, shape: tuple[int, int, int], present: np.ndarray | None) -> np.ndarray | None:
    """Returns the context of every element that is present, None where there is one."""
    out = None
    for axis, x in enumerate(self.of):
      if x is not None:
        laid = x.reshape([-1 if i == axis else 1 for i in range(3)])
        out = laid if out is None else out * np.uint8(x.max() + 1) + laid
    if out is None:
      return None
    out = np.broadcast_to(out, shape).ravel()
    return out if present is None else out[present]


def coarse(symbols: np.ndarray) -> np.ndarray:
  """Returns symbols in few enough classes to search with: uint8, from 0."""
  low, high = int(symbols.min()), int(symbols.max())
  shift = max(0, (high - low).bit_length() - (_BUCKETS - 1).bit_length())
  return ((symbols - low) >> shift).astype(np.uint8)


def estimate(histograms: np.ndarray) -> float:
  """Returns about the bits of symbols with a table for each context.

  Args:
    histograms: counts, (contexts, symbols).

  Returns:
    Bits of the symbols and the tables.
  """
  totals = histograms.sum(1)
  log2 = np.log2(np.maximum(histograms, 1))
  body = (totals * np.log2(np.maximum(totals, 1))).sum() - (histograms * log2).sum()
  kinds = (histograms > 0).sum(1)
  return float(body + np.where(kinds > 1, 16 + 2.5 * np.minimum(2 * kinds, 20), 4).sum())


def choose(symbols: np.ndarray, shape: tuple[int, int, int],
           present: np.ndarray | None) -> tuple[Classes, float]:
  """Finds classes that pay, axis by axis, the best first.

  Args:
    symbols: uint8, from `coarse`, of the elements that are present.
    shape: of the array, as `view` gives it.
    present: bool, of every element of the array; None for all.

  Returns:
    The classes, and about the bits that the symbols take with them.
  """
  size = int(symbols.max()) + 1
  histogram = lambda context, n: np.bincount(
      context.astype(np.int32) * size + symbols, minlength=n * size).reshape(n, size)
  best, classes = estimate(np.bincount(symbols, minlength=size)[None]), Classes()
  options = _options(histogram, shape, present)
  while options:
    found = None
    for axis, x in options:
      new = Classes(tuple(x if i == axis else c for i, c in enumerate(classes.of)))
      if new.count() > MOST:
        continue
      cost = estimate(histogram(new.contexts(shape, present), new.count()))
      cost += sum(_side_bits(c) for c in new.of if c is not None)
      if cost < best:
        best, found = cost, (axis, new)
    if found is None:
      break
    classes = found[1]
    options = [option for option in options if option[0] != found[0]]
  return classes, best


def _options(histogram, shape, present) -> list[tuple[int, np.ndarray]]:
  """Returns (axis, classes of its indices) to try."""
  found = []
  for axis, length in enumerate(shape):
    # An axis alone that is the whole array would be a table of its elements.
    if length < 2 or length * 2 > math.prod(shape):
      continue
    index = np.arange(length, dtype=np.int32)
    laid = Classes(tuple(index if i == axis else None for i in range(3)))
    counts = histogram(laid.contexts(shape, present), length)
    for n in _CLASSES:
      if n < length:
        found.append((axis, _alike(counts, n)))
  return [(axis, x) for axis, x in found if x.max() > 0]


def _alike(counts: np.ndarray, n: int) -> np.ndarray:
  """Returns classes (uint8) of the rows of counts: those that code each other best.

  Lloyd's algorithm on code lengths, started from ranks of the rows' mean deviation.
  """
  symbols, totals = np.arange(counts.shape[1]), np.maximum(counts.sum(1), 1)
  middle = counts.sum(0) @ symbols / max(1, counts.sum())
  deviation = counts @ (np.abs(symbols - middle) if len(symbols) > 2 else symbols) / totals
  classes = (np.argsort(np.argsort(deviation, kind="stable"), kind="stable") * n) // len(counts)
  for _ in range(3):
    together = np.stack([np.bincount(classes, column, n) for column in counts.T], 1) + 0.1
    lengths = np.log2(together.sum(1, keepdims=True)) - np.log2(together)
    classes = np.argmin(counts @ lengths.T, 1)
  return np.unique(classes, return_inverse=True)[1].astype(np.uint8)


def _side_bits(classes: np.ndarray) -> float:
  return estimate(np.bincount(classes)[None]) + 8

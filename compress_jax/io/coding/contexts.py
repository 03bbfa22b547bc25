"""Contexts: which of several tables codes an element, by where in the array it lies.

Channels that look alike share a class; an element's context is the class of its
output, of its input and of its place in the window, as far as each pays.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

MOST = 64  # contexts of an array; format
_CLASSES = (2, 4, 8, 16)  # of an axis, that are tried
_BUCKETS = 64  # of symbols, while searching


def view(shape: tuple[int, ...]) -> tuple[int, int, int]:
  """Returns how an array's axes are seen: as a kernel's, which is what most arrays are.

  Args:
    shape: of the array.

  Returns:
    (window, inputs, outputs); absent axes are 1.

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
    """Returns the context of every element that is present, None if there is only one.

    Args:
      shape: of the array, as `view` gives it.
      present: bool, of every element of the array; None for all.
    """
    out = None
    for axis, x in enumerate(self.of):
      if x is None:
        continue
      along = [1, 1, 1]
      along[axis] = -1
      laid = x.reshape(along)
      # Digits of a number: each axis has one, whose base is its number of classes.
      out = laid if out is None else out * np.uint8(x.max() + 1) + laid
    if out is None:
      return None
    out = np.broadcast_to(out, shape).ravel()
    return out if present is None else out[present]

  def replaced(self, axis: int, x: np.ndarray) -> Classes:
    """Returns these classes with other ones for one axis.

    Args:
      axis: 0 for the window, 1 for the inputs, 2 for the outputs.
      x: integers, one class per position of that axis.
    """
    of = list(self.of)
    of[axis] = x
    window, inputs, outputs = of
    return Classes((window, inputs, outputs))


def coarse(symbols: np.ndarray) -> np.ndarray:
  """Returns symbols in few enough buckets to search with.

  Args:
    symbols: integers, at least one.

  Returns:
    uint8 of the same shape, from 0; neighboring symbols share a bucket.
  """
  low, high = int(symbols.min()), int(symbols.max())
  shift = max(0, (high - low).bit_length() - (_BUCKETS - 1).bit_length())
  return ((symbols - low) >> shift).astype(np.uint8)


def estimate(histograms: np.ndarray) -> float:
  """Returns about the bits of symbols with one table per context.

  Args:
    histograms: counts, (contexts, symbols).

  Returns:
    Bits of the symbols and the tables.
  """
  totals = histograms.sum(1)
  log2 = np.log2(np.maximum(histograms, 1))
  body = (totals * np.log2(np.maximum(totals, 1))).sum() - (histograms * log2).sum()
  # About what `tables.Table` takes: a head, and levels of which smooth tables need few.
  kinds = (histograms > 0).sum(1)
  table = np.where(kinds > 1, 16 + 2.5 * np.minimum(2 * kinds, 20), 4)
  return float(body + table.sum())


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
  """The symbols that classes are tried on.

  Attributes:
    symbols: as given to `choose`.
    size: how many different symbols there may be.
    shape: as given to `choose`.
    present: as given to `choose`.
  """

  symbols: np.ndarray
  size: int
  shape: tuple[int, int, int]
  present: np.ndarray | None

  def histograms(self, classes: Classes) -> np.ndarray:
    """Returns how often each symbol occurs: (contexts, symbols)."""
    count = classes.count()
    context = classes.contexts(self.shape, self.present)
    assert context is not None  # what is tried has classes along some axis
    both = np.bincount(context.astype(np.int32) * self.size + self.symbols,
                       minlength=count * self.size)
    return both.reshape(count, self.size)


def choose(symbols: np.ndarray, shape: tuple[int, int, int],
           present: np.ndarray | None) -> tuple[Classes, float]:
  """Finds classes that pay, axis by axis, the best first.

  Greedy: of all axes' classes the ones that save most are taken, as long as any save.

  Args:
    symbols: uint8, from `coarse`, of the elements that are present.
    shape: of the array, as `view` gives it.
    present: bool, of every element of the array; None for all.

  Returns:
    The classes, and about the bits that the symbols take with them.
  """
  size = int(symbols.max()) + 1
  sample = _Sample(symbols, size, shape, present)
  classes, least = Classes(), estimate(np.bincount(symbols, minlength=size)[None])
  options = _options(sample)
  while options:
    better, taken = None, -1
    for axis, of_index in options:
      tried = classes.replaced(axis, of_index)
      if tried.count() > MOST:
        continue
      bits = estimate(sample.histograms(tried)) + _side_bits(tried)
      if bits < least:
        least, better, taken = bits, tried, axis
    if better is None:
      break
    classes = better
    options = [(axis, of_index) for axis, of_index in options if axis != taken]
  return classes, least


def _options(sample: _Sample) -> list[tuple[int, np.ndarray]]:
  """Returns (axis, class of each of its indices) to try."""
  found = []
  for axis, length in enumerate(sample.shape):
    # An axis alone that is the whole array would be a table of its elements.
    if length < 2 or length * 2 > math.prod(sample.shape):
      continue
    single = Classes().replaced(axis, np.arange(length, dtype=np.int32))
    counts = sample.histograms(single)
    for n in _CLASSES:
      if n >= length:
        break
      classes = _alike(counts, n)
      # All indices alike: no classes at all.
      if classes.max() > 0:
        found.append((axis, classes))
  return found


def _alike(counts: np.ndarray, n: int) -> np.ndarray:
  """Returns classes (uint8) of the rows of counts: those that code each other best.

  Lloyd's algorithm on code lengths, started from ranks of the rows' mean deviation.
  """
  symbols, totals = np.arange(counts.shape[1]), np.maximum(counts.sum(1), 1)
  middle = counts.sum(0) @ symbols / max(1, counts.sum())
  # Channels differ by how wide they spread; masks' by how many ones they have.
  distance = np.abs(symbols - middle) if len(symbols) > 2 else symbols
  deviation = counts @ distance / totals
  rank = np.argsort(np.argsort(deviation, kind="stable"), kind="stable")
  classes = rank * n // len(counts)
  for _ in range(3):
    # A tenth keeps what a class lacks possible, at a high price.
    together = np.stack([np.bincount(classes, column, n) for column in counts.T], 1) + 0.1
    lengths = np.log2(together.sum(1, keepdims=True)) - np.log2(together)
    classes = np.argmin(counts @ lengths.T, 1)
  return np.unique(classes, return_inverse=True)[1].astype(np.uint8)


def _side_bits(classes: Classes) -> float:
  """Returns about the bits that telling the classes of all indices takes."""
  total = 0
  for x in classes.of:
    if x is not None:
      total += estimate(np.bincount(x)[None]) + 8
  return total

"""The bound that coded sizes are held against."""

from __future__ import annotations

import numpy as np


def order0_bytes(x: np.ndarray) -> float:
  """Returns the bytes that an array takes for someone who knows its histogram.

  Args:
    x: array of numbers of any shape.

  Returns:
    The order-0 entropy of the values that are not zero, plus the binary entropy of
    which ones are, in bytes; the histogram itself counts nothing.

  Example:
    >>> order0_bytes(np.array([0, 0, 0, 0, 1, 1, 2, 2]))
    1.5
  """
  counts = np.unique(np.asarray(x), return_counts=True)[1]
  # H(mask) + P(not zero) H(values that are not zero) is the entropy of all values.
  return float(counts @ np.log2(x.size / counts)) / 8

"""Pictures of weights: counts for histograms, and masks as PNG files."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import numpy as np

from compress_jax.inspect.svg import Histogram
from compress_jax.leaves import dense_of, mask_of, parts_of

LARGEST = 128  # pixels a side
BINS = 48


def histogram(before: Any, after: Any) -> Histogram | None:
  """Counts the weights of a leaf before and after.

  Args:
    before: array or leaf, or None.
    after: likewise.

  Returns:
    Fractions of all weights in each of at most `BINS` intervals, exact zeros left out; None
    if nothing is left.

  Example:
    >>> import numpy as np
    >>> made = histogram(None, np.array([0.0, 0.0, 1.0, 2.0]))
    >>> made.low, made.high, made.zeros, sum(made.after)
    (1.0, 2.0, (None, 0.5), 0.5)
  """
  sides = [None if x is None else np.asarray(dense_of(x)).astype(np.float64).ravel()
           for x in (before, after)]
  shown = [None if x is None else x[np.isfinite(x) & (x != 0)] for x in sides]
  every = np.concatenate([np.zeros(0), *(x for x in shown if x is not None)])
  if not every.size:
    return None
  low, high = float(every.min()), float(every.max())
  if not low < high:
    low, high = low - abs(low) / 2, high + abs(high) / 2
  bins = min(BINS, max(4, every.size // 8))  # a short vector fills few
  counts = [None if x is None else
            tuple((np.histogram(s, bins, (low, high))[0] / max(1, x.size)).tolist())
            for x, s in zip(sides, shown, strict=True)]
  zeros = tuple(None if x is None else float(np.mean(x == 0)) if x.size else 0.0 for x in sides)
  return Histogram(low=low, high=high, before=counts[0], after=counts[1], zeros=zeros)


def masks_of(x: Any) -> dict[str, np.ndarray]:
  """Returns what of a leaf is kept: its masks, or where its deployed weights are not zero.

  Args:
    x: array or leaf.

  Returns:
    {"mask" or "non-zero weights", after the factor's name: bool array}; nothing where
    nothing was masked: there is no mask and less than a tenth is zero.

  Example:
    >>> import numpy as np
    >>> list(masks_of(np.eye(2))), masks_of(np.ones((2, 2)))
    (['non-zero weights'], {})
  """
  found = {}
  for name, part in parts_of(x).items():
    name, mask = f"{name}: " if name else "", mask_of(part)
    if mask is not None:
      found[f"{name}mask"] = np.asarray(mask)
    elif part.ndim >= 2 and part.size:
      kept = np.asarray(dense_of(part)) != 0
      if kept.mean() < 0.9:
        found[f"{name}non-zero weights"] = kept
  return found


def shrunk(kept: np.ndarray, largest: int = LARGEST) -> np.ndarray:
  """Returns a mask as a picture: each pixel the fraction kept of the weights under it.

  Args:
    kept: bool array; as a matrix its rows are all axes but the last.
    largest: pixels a side, at most.

  Returns:
    uint8, (height, width), wider than high: 255 is all kept.

  Example:
    >>> import numpy as np
    >>> shrunk(np.eye(4, dtype=bool), largest=2).tolist()
    [[128, 0], [0, 128]]
  """
  matrix = np.asarray(kept, np.float64).reshape(-1, kept.shape[-1] if kept.ndim else 1)
  matrix = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
  for axis in (0, 1):
    size = matrix.shape[axis]
    edges = np.linspace(0, size, min(size, largest) + 1).astype(int)
    counts = np.diff(edges)[:, None] if axis == 0 else np.diff(edges)
    matrix = np.add.reduceat(matrix, edges[:-1], axis) / counts
  return np.rint(255 * matrix).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
  """Returns a grey picture as a PNG file (ISO/IEC 15948).

  Args:
    pixels: uint8, (height, width).

  Example:
    >>> import numpy as np
    >>> png(np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
  """
  def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

  height, width = pixels.shape
  header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits, grey
  lines = b"".join(b"\0" + line.tobytes() for line in np.ascontiguousarray(pixels))
  return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9))
          + chunk(b"IEND", b""))


def data_uri(pixels: np.ndarray) -> str:
  """Returns a picture as an address that holds it."""
  return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()

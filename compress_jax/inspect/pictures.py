"""Pictures of weights: counts for histograms, and masks as PNG files."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

import numpy as np

from compress_jax.extras import need
from compress_jax.io.leaf_summary import too_large
from compress_jax.leaves import dense_of, mask_of, parts_of

LARGEST = 128  # pixels per side
BINS = 48
# Weights of 64 bits may be as far from each other, and as near, as no arithmetic of charts takes.
_FARTHEST, _NEAREST = 1e300, 1e-290


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
  """Weights, counted.

  Attributes:
    low: where the first interval starts.
    high: where the last one ends.
    before: fraction of all weights in each interval, or None.
    after: likewise.
    zeros: fractions of exact zeros, before and after; not in any interval.
  """

  low: float
  high: float
  before: tuple[float, ...] | None
  after: tuple[float, ...] | None
  zeros: tuple[float | None, float | None]


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
  sides = [_flat(before), _flat(after)]
  shown = [_shown(side) for side in sides]
  every = np.concatenate([side for side in shown if side is not None] or [np.zeros(0)])
  if not every.size:
    return None
  low, high = _ends(float(every.min()), float(every.max()))
  # A short vector fills few intervals.
  bins = min(BINS, max(4, every.size // 8))
  counts = [_fractions(inner, side, bins, (low, high))
            for inner, side in zip(shown, sides, strict=True)]
  return Histogram(low=low, high=high, before=counts[0], after=counts[1],
                   zeros=(_zeros(sides[0]), _zeros(sides[1])))


def _flat(x: Any) -> np.ndarray | None:
  if x is None or too_large(x):
    return None
  values = np.asarray(dense_of(x))
  if np.iscomplexobj(values):
    values = np.stack([np.real(values), np.imag(values)])
  return values.astype(np.float64).ravel()


def _shown(values: np.ndarray | None) -> np.ndarray | None:
  """Returns the finite values that are not zero, none so large that no chart has room for it."""
  if values is None:
    return None
  return np.clip(values[np.isfinite(values) & (values != 0)], -_FARTHEST, _FARTHEST)


def _ends(low: float, high: float) -> tuple[float, float]:
  """Returns the ends of a histogram, wider where no float lies between its intervals."""
  reach = max(abs(low), abs(high))
  if high - low > 1e-12 * reach + _NEAREST:
    return low, high
  return low - reach / 2 - _NEAREST, high + reach / 2 + _NEAREST


def _fractions(shown: np.ndarray | None, every: np.ndarray | None, bins: int,
               ends: tuple[float, float]) -> tuple[float, ...] | None:
  if shown is None or every is None:
    return None
  counts = np.histogram(shown, bins, ends)[0]
  return tuple((counts / max(1, every.size)).tolist())


def _zeros(values: np.ndarray | None) -> float | None:
  if values is None:
    return None
  return float(np.mean(values == 0)) if values.size else 0.0


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
    if not part.size or too_large(part):
      continue  # a picture has pixels, and not any number of them
    name, mask = f"{name}: " if name else "", mask_of(part)
    if mask is not None:
      found[f"{name}mask"] = np.asarray(mask)
    elif part.ndim >= 2:
      kept = np.asarray(dense_of(part)) != 0
      # Fewer zeros come about by rounding.
      if kept.mean() < 0.9:
        found[f"{name}non-zero weights"] = kept
  return found


def shrunk(kept: np.ndarray, largest: int = LARGEST) -> np.ndarray:
  """Returns a mask as a picture: each pixel the fraction kept of the weights under it.

  Args:
    kept: bool array; as a matrix its rows are all axes but the last.
    largest: pixels per side, at most.

  Returns:
    uint8, (height, width), wider than high: 255 is all kept.

  Example:
    >>> import numpy as np
    >>> shrunk(np.eye(4, dtype=bool), largest=2).tolist()
    [[128, 0], [0, 128]]
  """
  matrix = np.asarray(kept, np.float64).reshape(-1, kept.shape[-1] if kept.ndim else 1)
  if matrix.shape[0] > matrix.shape[1]:
    matrix = matrix.T
  # Rows, then columns: the mean of equally long means is the mean of all.
  matrix = _shrunk_rows(matrix, largest)
  matrix = _shrunk_rows(matrix.T, largest).T
  return np.rint(255 * matrix).astype(np.uint8)


def _shrunk_rows(matrix: np.ndarray, largest: int) -> np.ndarray:
  """Returns at most so many rows, each the mean of neighbors."""
  rows = matrix.shape[0]
  edges = np.linspace(0, rows, min(rows, largest) + 1).astype(int)
  return np.add.reduceat(matrix, edges[:-1], axis=0) / np.diff(edges)[:, None]


def png(pixels: np.ndarray) -> bytes:
  """Returns a grey picture as a PNG file.

  Args:
    pixels: uint8, (height, width).

  Returns:
    The file's bytes.

  Raises:
    ImportError: Pillow is not installed.

  Example:
    >>> import numpy as np
    >>> png(np.zeros((2, 3), np.uint8))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
  """
  file = io.BytesIO()
  need("PIL.Image", "html").fromarray(pixels).save(file, "PNG", optimize=True)
  return file.getvalue()


def data_uri(pixels: np.ndarray) -> str:
  """Returns a picture as an address that holds it.

  Args:
    pixels: uint8, (height, width).

  Returns:
    A `data:` address of a PNG file.

  Raises:
    ImportError: Pillow is not installed.

  Example:
    >>> import numpy as np
    >>> data_uri(np.zeros((2, 3), np.uint8))[:22]
    'data:image/png;base64,'
  """
  return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()

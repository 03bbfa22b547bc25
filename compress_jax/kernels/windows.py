"""Where a convolution's window lies, and what each of its taps meets of an image."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

from jax import lax

from compress_jax.leaves.base import Array


@dataclasses.dataclass(frozen=True)
class Window:
  """The window of a convolution without padding; iterating gives its taps' indices.

  Attributes:
    sizes: along each spatial axis.
    strides: between windows, along each.
    dilation: between taps, along each.
  """

  sizes: tuple[int, ...]
  strides: tuple[int, ...]
  dilation: tuple[int, ...]

  def __iter__(self) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, self.sizes))

  def positions(self, shape: tuple[int, ...]) -> list[Any]:
    """Returns how many windows fit on each spatial axis.

    Args:
      shape: of x, (batch, *spatial, channels); may have symbols, where a program is exported
        for all sizes.

    Returns:
      The numbers, below 1 where the window is larger than the image.
    """
    axes = zip(shape[1:-1], self.sizes, self.strides, self.dilation, strict=True)
    return [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in axes]

  def slice(self, x: Array, tap: Any, channel: Any, depth: int) -> Array:
    """Returns what one tap meets at every position, of some channels.

    Args:
      x: (batch, *spatial, channels), at least as large as the window.
      tap: the tap's indices in the window; may be traced.
      channel: the first channel; may be traced.
      depth: how many channels.

    Returns:
      (batch, *positions, depth).

    Example:
      >>> import jax.numpy as jnp
      >>> window = Window(sizes=(2,), strides=(2,), dilation=(1,))
      >>> [window.slice(jnp.arange(5).reshape(1, 5, 1), tap, 0, 1).ravel().tolist()
      ...  for tap in window]
      [[0, 2], [1, 3]]
    """
    spans = [(n - 1) * s + 1 for n, s in zip(self.positions(x.shape), self.strides, strict=True)]
    start = [t * d for t, d in zip(tap, self.dilation, strict=True)]
    # Twice: a slice whose start is traced has no strides.
    taken = lax.dynamic_slice(x, (0, *start, channel), (x.shape[0], *spans, depth))
    return lax.slice(taken, (0,) * x.ndim, taken.shape, (1, *self.strides, 1))

"""Convolution with a block-sparse kernel: products on shifted slices of x, or on its patches.

Shifted slices copy only what the stored blocks meet; patches copy every tap's
slice, nine for a 3 x 3 kernel. On the layers of VGG-16 (64 x 64 blocks, 90 %
pruned, batch 64, CPU) slices took a fifth of the patches' time in all, so they
run wherever a block lies within one tap. Kernels of other backends take patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from compress_jax.kernels.block_sparse import api, check, reference
from compress_jax.kernels.windows import Window
from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

# Up to so many blocks have a slice each; one gather of more compiles sooner.
SLICED_BLOCKS = 64


def conv(x: Array, w: BlockSparse, *, strides: Sequence[int] | None = None,
         dilation: Sequence[int] | None = None, backend: str | None = None,
         out_dtype: DTypeLike | None = None) -> Array:
  """Returns the convolution of x with W, without padding.

  Args:
    x: `(batch, *spatial, channels)`, padded; dtypes as for `matmul`.
    w: a kernel of shape `(*window, channels, outputs)`.
    strides: of the window; by default 1.
    dilation: of the window; by default 1.
    backend: as for `matmul`.
    out_dtype: as for `matmul`.

  Returns:
    `(batch, *positions, outputs)`; dtypes and derivatives as of `matmul`.

  Raises:
    ValueError: operands that do not belong together, or a result that is no float.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = cj.BlockSparse.from_dense(jnp.ones((2, 2, 4, 2)), block=(4, 2))
    >>> conv(jnp.ones((1, 3, 3, 4)), w).shape
    (1, 2, 2, 2)
  """
  check.convolution(x, w)
  check.result(out_dtype)
  ones = (1,) * (x.ndim - 2)
  window = Window(w.shape[:-2], tuple(strides or ones), tuple(dilation or ones))
  in_one_tap = w.shape[-2] % w.block[0] == 0  # every block lies within a single tap
  if api.picked(backend, x, w) != "xla" or not in_one_tap:
    slices = [window.slice(x, tap, 0, x.shape[-1]) for tap in window]
    return api.matmul(jnp.concatenate(slices, -1), w, backend=backend,
                      out_dtype=out_dtype)
  return _on_slices(x, w, window, out_dtype)


def _on_slices(x: Array, w: BlockSparse, window: Window, out_dtype: DTypeLike | None) -> Array:
  """Returns the convolution, of the slice of x that each block meets."""
  dtype, blocks = reference.operands(x, w)
  shape, height = (x.shape[0], *window.positions(x.shape)), w.block[0]
  per_tap = w.shape[-2] // height

  def piece(row: Array) -> Array:
    """Returns what one row of blocks meets: some channels at one tap."""
    tap = jnp.unravel_index(row // per_tap, window.sizes)
    return window.slice(x, tap, row % per_tap * height, height)

  def take(rows: Array) -> Array:
    """Returns the pieces of some rows of blocks beside each other: (positions, channels)."""
    if w.blocks.shape[0] <= SLICED_BLOCKS:
      taken = jnp.concatenate([piece(row) for row in rows], -1)
    else:
      taken = jax.vmap(piece, out_axes=-2)(rows)
    return taken.reshape(math.prod(shape), len(rows) * height)

  total = reference.columns(take, math.prod(shape), blocks, w, dtype)
  return api.scaled(total, x, w, out_dtype).reshape(*shape, w.shape[-1])

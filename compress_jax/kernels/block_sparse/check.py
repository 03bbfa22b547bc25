"""What a block-sparse weight and its other operand may be."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from compress_jax import tree
from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

DTYPES = ("float32", "bfloat16", "float16", "int8")


def operands(x: Array, w: BlockSparse) -> None:
  """Raises a ValueError unless `x @ w` can run.

  Args:
    x: (..., inputs).
    w: the weight.

  Raises:
    ValueError: names what does not fit: sizes, dtypes, indices.
  """
  _weight(w)
  inputs = w.matrix[0]
  if x.ndim < 1 or x.shape[-1] != inputs:
    raise ValueError(f"x has shape {x.shape}: its last axis must be {inputs}, the rows of w")
  _dtypes(x, w)
  structure(w)


def convolution(x: Array, w: BlockSparse) -> None:
  """Raises a ValueError unless the convolution of `x` with `w` can run.

  Args:
    x: (batch, *spatial, channels).
    w: the kernel.

  Raises:
    ValueError: names what does not fit: axes, dtypes, indices.
  """
  _weight(w)
  axes, channels = len(w.shape), w.shape[-2]
  if axes < 3 or x.ndim != axes or x.shape[-1] != channels:
    raise ValueError(f"x has shape {x.shape}, w {w.shape}: must be (batch, *spatial, {channels}) "
                     "and (*window, channels, outputs) with as many axes, from three")
  _dtypes(x, w)
  structure(w)


def _weight(w: BlockSparse) -> None:
  if not isinstance(w, BlockSparse):
    raise ValueError(f"w: a {type(w).__name__}; it may be a BlockSparse (BlockSparse.from_dense)")


def _dtypes(x: Array, w: BlockSparse) -> None:
  for name, dtype in (("x", x.dtype), ("w.blocks", w.blocks.dtype)):
    if jnp.dtype(dtype).name not in DTYPES:
      raise ValueError(f"{name} has dtype {dtype}: no kernel; it may be one of {', '.join(DTYPES)}")
  if x.dtype == jnp.int8 and w.blocks.dtype != jnp.int8:
    raise ValueError("x is int8 and w.blocks are floats: both may be int8, or x a float")


def structure(w: BlockSparse) -> None:
  """Raises a ValueError unless the indices of `w` are what they must be; traced ones pass."""
  count, (rows, columns) = w.blocks.shape[0], w.tiles
  if w.rows.shape != (count,) or len(w.counts) != columns or sum(w.counts) != count:
    raise ValueError(f"rows {w.rows.shape}, counts of {len(w.counts)} columns that sum to "
                     f"{sum(w.counts)}: must be ({count},), {columns} and {count}")
  row = tree.concrete(w.rows)
  if row is None:
    return
  if row.size and not (row.min() >= 0 and row.max() < rows):
    raise ValueError(f"rows from {row.min()} to {row.max()}: may be from 0 to {rows - 1}")
  step = np.diff(row)[np.diff(w.columns()) == 0]
  if (step <= 0).any():
    what = "repeated" if (step == 0).any() else "unsorted"
    raise ValueError(f"rows are {what} within a column of blocks: they must rise")

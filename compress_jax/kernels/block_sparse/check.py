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
  if not isinstance(w, BlockSparse):
    raise ValueError(f"w: a {type(w).__name__}; it may be a BlockSparse (BlockSparse.from_dense)")
  inputs = w.matrix[0]
  if x.ndim < 1 or x.shape[-1] != inputs:
    raise ValueError(f"x has shape {x.shape}: its last axis must be {inputs}, the rows of w")
  for name, dtype in (("x", x.dtype), ("w.blocks", w.blocks.dtype)):
    if jnp.dtype(dtype).name not in DTYPES:
      raise ValueError(f"{name} has dtype {dtype}: no kernel; it may be one of {', '.join(DTYPES)}")
  if x.dtype == jnp.int8 and w.blocks.dtype != jnp.int8:
    raise ValueError("x is int8 and w.blocks are floats: both may be int8, or x a float")
  structure(w)


def structure(w: BlockSparse) -> None:
  """Raises a ValueError unless the indices of `w` are what they must be; traced ones pass."""
  count, (rows, columns) = w.blocks.shape[0], w.tiles
  if w.rows.shape != (count,) or w.pointers.shape != (columns + 1,):
    raise ValueError(f"rows {w.rows.shape}, pointers {w.pointers.shape}: must be ({count},) and "
                     f"({columns + 1},) for {count} blocks in {columns} columns")
  row, pointer = tree.concrete(w.rows), tree.concrete(w.pointers)
  if pointer is None or row is None:
    return
  if pointer[0] != 0 or pointer[-1] > count or (np.diff(pointer) < 0).any():
    raise ValueError(f"pointers={pointer.tolist()[:8]}...: must rise from 0 to at most {count}")
  if row.size and not (0 <= row.min() and row.max() < rows):
    raise ValueError(f"rows from {row.min()} to {row.max()}: may be from 0 to {rows - 1}")
  column = np.searchsorted(pointer, np.arange(pointer[-1]), side="right")
  step = np.diff(row[:pointer[-1]])[np.diff(column) == 0]
  if (step <= 0).any():
    what = "repeated" if (step == 0).any() else "unsorted"
    raise ValueError(f"rows are {what} within a column of blocks: they must rise")

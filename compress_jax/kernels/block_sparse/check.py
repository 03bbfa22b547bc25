"""What a block-sparse weight, its other operand and their product may be."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

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
  w.validate()
  _dtypes(x, w)


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
  w.validate()
  _dtypes(x, w)


def result(dtype: DTypeLike | None) -> None:
  """Raises a ValueError unless a product can be of a dtype.

  Args:
    dtype: of the result; None for what the operands give.

  Raises:
    ValueError: it is no float.
  """
  if dtype is not None and not jnp.issubdtype(dtype, jnp.floating):
    raise ValueError(f"out_dtype={jnp.dtype(dtype).name!r}: must be a float, or None")


def _weight(w: BlockSparse) -> None:
  if not isinstance(w, BlockSparse):
    raise ValueError(f"w: a {type(w).__name__}; must be a BlockSparse (BlockSparse.from_dense)")


def _dtypes(x: Array, w: BlockSparse) -> None:
  for name, dtype in (("x", x.dtype), ("w.blocks", w.blocks.dtype)):
    if jnp.dtype(dtype).name not in DTYPES:
      raise ValueError(f"{name} has dtype {dtype}: no kernel; must be one of {', '.join(DTYPES)}")
  if x.dtype == jnp.int8 and w.blocks.dtype != jnp.int8:
    raise ValueError("x is int8 and w.blocks are floats: both must be int8, or x a float")

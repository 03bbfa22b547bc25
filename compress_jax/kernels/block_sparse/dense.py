"""The block-sparse product as a dense one, for GPUs that have no kernel for it.

On an H100 XLA's products of blocks (`reference`) took 5 to 9 times as long as a dense product of
the same matrix, 90 % pruned (4096 x 4096 and 8192 x 8192, bfloat16, blocks of 64 and 128).
Floats are multiplied at JAX's default precision, as the model that was pruned does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax

from compress_jax.kernels.block_sparse import reference
from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse


def matmul(x: Array, w: BlockSparse) -> Array:
  """Returns x @ W before any scale; see `reference.matmul`.

  Args:
    x: (batch, inputs filled up to whole blocks).
    w: the weight; its `scale` and `dims` are not read.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  dtype, _ = reference.operands(x, w)
  (rows, columns), (height, width) = w.tiles, w.block
  return jnp.dot(x, _written_out(x, w, (rows * height, columns * width)),
                 preferred_element_type=dtype)


def conv(x: Array, w: BlockSparse, strides: Sequence[int], dilation: Sequence[int]) -> Array:
  """Returns the convolution of x with W before any scale, without padding.

  Args:
    x: `(batch, *spatial, channels)`, floats.
    w: a kernel of shape `(*window, channels, outputs)`; its `scale` is not read.
    strides: of the window.
    dilation: of the window.

  Returns:
    `(batch, *positions, outputs)`, of x's dtype.
  """
  kernel = _written_out(x, w, w.shape)
  axes = (0, x.ndim - 1, *range(1, x.ndim - 1))
  numbers = lax.ConvDimensionNumbers(
      axes, (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2)), axes)
  # Rounded to x's dtype, since sums of another one have no derivative in JAX.
  return lax.conv_general_dilated(
      x, kernel, strides, "VALID", rhs_dilation=dilation, dimension_numbers=numbers)


def _written_out(x: Array, w: BlockSparse, dims: tuple[int, ...]) -> Array:
  """Returns the blocks, in the dtype that meets x, and the zeros between them."""
  _, blocks = reference.operands(x, w)
  bare = dataclasses.replace(w, blocks=blocks, scale=None, input=None, dims=dims,
                             dense_dtype=blocks.dtype.name)
  return bare.dense()

"""The block-sparse product in XLA: the fast path on a CPU, and the reference anywhere.

For every column of blocks, the pieces of x that its blocks meet are gathered, and
one matrix product sums them. Columns run in groups of about as many blocks, the
fullest first, so that filling up wastes little; sizes are static, indices are not.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse


def matmul(x: Array, w: BlockSparse) -> Array:
  """Returns x @ W before any scale.

  Args:
    x: (batch, inputs filled up to whole blocks).
    w: the weight; its `scale` and `dims` are not read.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  height, width = w.block
  x = x.reshape(x.shape[0], -1, height)
  both = jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(w.blocks.dtype, jnp.integer)
  blocks = w.blocks if both else w.blocks.astype(x.dtype)
  counts = w.pointers[1:] - w.pointers[:-1]
  order = jnp.argsort(-counts, stable=True)
  parts, start = [], 0
  for columns, most in w.layout:
    chosen = order[start:start + columns]
    parts.append(_group(x, blocks, w, chosen, most, jnp.int32 if both else jnp.float32))
    start += columns
  # (columns, batch, width), fullest first -> (batch, columns * width) in order.
  total = jnp.concatenate(parts)[jnp.argsort(order)]
  return total.swapaxes(0, 1).reshape(x.shape[0], -1)


def _group(x: Array, blocks: Array, w: BlockSparse, columns: Array, most: int,
           dtype: jnp.dtype) -> Array:
  """Returns (columns, batch, width): the product with columns of at most `most` blocks."""
  height, width = w.block
  if most == 0:
    return jnp.zeros((columns.shape[0], x.shape[0], width), dtype)

  def one(column: Array) -> Array:
    at = w.pointers[column] + jnp.arange(most)
    inside = at < w.pointers[column + 1]
    at = jnp.minimum(at, blocks.shape[0] - 1)
    # What fills the column up meets any piece of x, with weights of zero.
    piece = jnp.where(inside[:, None, None], blocks[at], 0).reshape(most * height, width)
    taken = jnp.take(x, jnp.where(inside, w.rows[at], 0), axis=1, mode="clip")
    return jax.lax.dot(taken.reshape(x.shape[0], most * height), piece,
                       precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype)

  return jax.lax.map(one, columns)


def transposed(w: BlockSparse) -> BlockSparse:
  """Returns the leaf of the transposed matrix (filled up to whole blocks)."""
  (rows, columns), (height, width) = w.tiles, w.block
  # Blocks that no column's run holds go last, behind every row's run.
  used = jnp.arange(w.blocks.shape[0]) < w.pointers[-1]
  row = jnp.where(used, w.rows, rows)
  order = jnp.argsort(row, stable=True)
  pointers = jnp.searchsorted(row[order], jnp.arange(rows + 1)).astype(jnp.int32)
  return dataclasses.replace(
      w, blocks=w.blocks[order].swapaxes(1, 2), rows=w.columns()[order], pointers=pointers,
      dims=(columns * width, rows * height), layout=w.back, back=w.layout)


def block_gradient(x: Array, g: Array, w: BlockSparse) -> Array:
  """Returns the gradient of the stored blocks: (count, height, width), float32.

  Args:
    x: (batch, inputs filled up).
    g: (batch, outputs filled up), the result's gradient.
    w: the weight.
  """
  height, width = w.block
  taken = x.reshape(x.shape[0], -1, height)[:, w.rows]
  given = g.reshape(g.shape[0], -1, width)[:, w.columns()]
  return jnp.einsum("bnh,bnw->nhw", taken, given, precision="highest",
                    preferred_element_type=jnp.float32)

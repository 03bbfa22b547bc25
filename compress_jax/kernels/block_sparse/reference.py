"""The block-sparse product in XLA: the fast path on a CPU, and the reference anywhere.

For every column of blocks, the pieces of x that its blocks meet are gathered, and
one matrix product sums them. Of few blocks each column is a product of its own
shape; of many, columns of about as many run in a loop with x transposed, where
the gather is a copy of whole pieces (measured: `experiments/bench_block_sparse.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

# Above this density, or from so many columns on, columns run in a loop.
LOOP_DENSITY = 0.15
LOOP_COLUMNS = 256
_GROUPS = 16


def matmul(x: Array, w: BlockSparse) -> Array:
  """Returns x @ W before any scale.

  Args:
    x: (batch, inputs filled up to whole blocks).
    w: the weight; its `scale` and `dims` are not read.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  both = jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(w.blocks.dtype, jnp.integer)
  dtype = jnp.int32 if both else jnp.float32
  blocks = w.blocks if both else w.blocks.astype(x.dtype)
  if not w.counts or max(w.counts) == 0:
    return jnp.zeros((x.shape[0], len(w.counts) * w.block[1]), dtype)
  looped = w.density > LOOP_DENSITY or len(w.counts) > LOOP_COLUMNS
  return (_loop if looped else _unrolled)(x, blocks, w, dtype)


def _unrolled(x: Array, blocks: Array, w: BlockSparse, dtype: jnp.dtype) -> Array:
  """One product a column of blocks."""
  (height, width), batch, starts = w.block, x.shape[0], w.starts
  pieces, out = x.reshape(batch, -1, height), []
  for start, stop in itertools.pairwise(starts):
    if start == stop:
      out.append(jnp.zeros((batch, width), dtype))
      continue
    taken = jnp.take(pieces, w.rows[start:stop], axis=1, mode="clip").reshape(batch, -1)
    out.append(_dot(taken, blocks[start:stop].reshape(-1, width), dtype))
  return jnp.concatenate(out, 1)


def _loop(x: Array, blocks: Array, w: BlockSparse, dtype: jnp.dtype) -> Array:
  """Columns of about as many blocks, one after the other."""
  (height, width), batch = w.block, x.shape[0]
  # The piece behind the last is zero: what a run is filled up with.
  pieces = jnp.pad(x.T.reshape(-1, height, batch), ((0, 1), (0, 0), (0, 0)))
  order = np.argsort(-np.asarray(w.counts), kind="stable")
  size, parts = -(-len(order) // _GROUPS), []
  for group in (order[i:i + size] for i in range(0, len(order), size)):
    most = w.counts[group[0]]
    if most == 0:
      parts.append(jnp.zeros((len(group), width, batch), dtype))
      continue
    first, last = (np.asarray(w.starts, np.int32)[group + i] for i in (0, 1))
    one = functools.partial(_column, pieces, blocks, w, most, dtype)
    parts.append(jax.lax.map(lambda run, one=one: one(*run), (first, last)))
  total = jnp.concatenate(parts)[np.argsort(order)]
  return total.reshape(-1, batch).T


def _column(pieces: Array, blocks: Array, w: BlockSparse, most: int, dtype: jnp.dtype,
            first: Array, last: Array) -> Array:
  """Returns (width, batch): the product with the column whose run is first to last."""
  (height, width), zero = w.block, pieces.shape[0] - 1
  start = jnp.minimum(first, blocks.shape[0] - most)
  at = start + jnp.arange(most)
  rows = jax.lax.dynamic_slice_in_dim(w.rows, start, most)
  rows = jnp.where((at >= first) & (at < last), rows, zero)
  taken = jnp.take(pieces, rows, axis=0, mode="clip").reshape(most * height, -1)
  run = jax.lax.dynamic_slice_in_dim(blocks, start, most)
  return _dot(run.transpose(2, 0, 1).reshape(width, most * height), taken, dtype)


def _dot(a: Array, b: Array, dtype: jnp.dtype) -> Array:
  return jax.lax.dot(a, b, precision=jax.lax.Precision.HIGHEST, preferred_element_type=dtype)


def transposed(w: BlockSparse) -> BlockSparse:
  """Returns the leaf of the transposed matrix; `scale` is left as it is."""
  order = jnp.argsort(w.rows, stable=True)
  return dataclasses.replace(
      w, blocks=w.blocks[order].swapaxes(1, 2), rows=jnp.asarray(w.columns())[order],
      dims=w.matrix[::-1], counts=w.row_counts, row_counts=w.counts)


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

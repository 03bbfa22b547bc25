"""The block-sparse product in XLA: the fast path on a CPU, and the reference anywhere.

For every column of blocks, the pieces of x that its blocks meet are gathered, and
one matrix product sums them. What is gathered must stay small: buffers past some
tens of megabytes are new pages in every call, which costs more than the products.
So little is gathered at once; of more, groups of columns follow each other; and
many columns run in a loop (measured: `benchmarks/bench_block_sparse.py`).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

# Bytes gathered by a product as a whole, and by one of its groups of columns.
WHOLE_BYTES = 16 << 20
GROUP_BYTES = 8 << 20
# Beyond so many columns, compiling each takes too long.
LOOP_COLUMNS = 256
_LOOP_GROUPS = 16  # loops: the more, the less a column is filled up to the longest of its loop


def matmul(x: Array, w: BlockSparse) -> Array:
  """Returns x @ W before any scale.

  Args:
    x: (batch, inputs filled up to whole blocks).
    w: the weight; its `scale` and `dims` are not read.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  dtype, blocks = operands(x, w)
  if not w.counts or max(w.counts) == 0:
    return jnp.zeros((x.shape[0], len(w.counts) * w.block[1]), dtype)
  if len(w.counts) > LOOP_COLUMNS:
    return _loop(x, blocks, w, dtype)
  size = _group_size(x, w)
  if size >= len(w.counts):
    return _whole(x, blocks, w, dtype)
  return _grouped(x, blocks, w, dtype, size)


def operands(x: Array, w: BlockSparse) -> tuple[DTypeLike, Array]:
  """Returns the dtype that sums are in, and the blocks in the dtype that meets x.

  Args:
    x: the other operand; only its dtype is used.
    w: the weight.

  Returns:
    int32 and the blocks as they are for integers by integers; else float32, and the
    blocks in x's dtype.
  """
  integers = jnp.issubdtype(x.dtype, jnp.integer) and jnp.issubdtype(w.blocks.dtype, jnp.integer)
  if integers:
    return jnp.int32, w.blocks
  return jnp.float32, w.blocks.astype(x.dtype)


def _group_size(x: Array, w: BlockSparse) -> int:
  """Returns how many columns of blocks one group takes."""
  columns = len(w.counts)
  if not isinstance(x.shape[0], int):
    return columns  # exported for any batch, whose size is a symbol
  total = w.blocks.shape[0] * w.block[0] * x.shape[0] * x.dtype.itemsize
  if total <= WHOLE_BYTES:
    return columns
  return max(1, int(columns * GROUP_BYTES / total))


def columns(take: Callable[[Array], Array], batch: int, blocks: Array, w: BlockSparse,
            dtype: DTypeLike) -> Array:
  """Returns the product, one dot per column of blocks.

  Args:
    take: gives (batch, n * height), the pieces of x of n rows of blocks.
    batch: rows of the result.
    blocks: (count, height, width), as they meet x.
    w: the weight.
    dtype: of the result.

  Returns:
    (batch, outputs filled up).
  """
  width, out = w.block[1], []
  for start, stop in itertools.pairwise(w.starts):
    if start == stop:
      out.append(jnp.zeros((batch, width), dtype))
      continue
    taken = take(w.rows[start:stop])
    # A column's blocks, one above the other, are one matrix.
    out.append(dot(taken, blocks[start:stop].reshape(-1, width), dtype))
  return jnp.concatenate(out, 1)


def _whole(x: Array, blocks: Array, w: BlockSparse, dtype: DTypeLike) -> Array:
  """Returns the product at once, XLA free to order the columns."""
  pieces = x.reshape(x.shape[0], -1, w.block[0])

  def take(rows: Array) -> Array:
    # "clip" spares a check of indices; they are in range.
    return jnp.take(pieces, rows, axis=1, mode="clip").reshape(x.shape[0], -1)

  return columns(take, x.shape[0], blocks, w, dtype)


def _grouped(x: Array, blocks: Array, w: BlockSparse, dtype: DTypeLike, size: int) -> Array:
  """Returns the product, groups of `size` columns one after the other."""
  (height, width), batch = w.block, x.shape[0]
  # Transposed, gathering is a copy of whole pieces.
  pieces = x.T.reshape(-1, height, batch)

  def column(start: int, stop: int) -> Array:
    if start == stop:
      return jnp.zeros((width, batch), dtype)
    taken = jnp.take(pieces, w.rows[start:stop], axis=0, mode="clip").reshape(-1, batch)
    return dot(blocks[start:stop].reshape(-1, width), taken, dtype, on=0)

  def group(runs: list[tuple[int, int]]) -> Array:
    return jnp.concatenate([column(*run) for run in runs])

  runs = list(itertools.pairwise(w.starts))
  # All branches of a switch have one shape: the last group is filled up with empty columns.
  runs += [(0, 0)] * (-len(runs) % size)
  groups = [functools.partial(group, runs[i:i + size]) for i in range(0, len(runs), size)]
  # A loop, since nothing else makes XLA run one group after the other.
  parts = jax.lax.map(lambda i: jax.lax.switch(i, groups), jnp.arange(len(groups)))
  return parts.reshape(-1, batch)[:len(w.counts) * width].T


def _loop(x: Array, blocks: Array, w: BlockSparse, dtype: DTypeLike) -> Array:
  """Returns the product, column by column, in loops over columns of about as many blocks."""
  (height, width), batch = w.block, x.shape[0]
  # The piece behind the last is zero: what a run is filled up with.
  pieces = jnp.pad(x.T.reshape(-1, height, batch), ((0, 1), (0, 0), (0, 0)))
  order = np.argsort(-np.asarray(w.counts), kind="stable")
  starts = np.asarray(w.starts, np.int32)
  size, parts = -(-len(order) // _LOOP_GROUPS), []
  for at in range(0, len(order), size):
    group = order[at:at + size]
    most = w.counts[group[0]]  # the first has the most
    if most == 0:
      parts.append(jnp.zeros((len(group), width, batch), dtype))
      continue
    column = functools.partial(_column, pieces, blocks, w, most, dtype)
    parts.append(jax.lax.map(column, (starts[group], starts[group + 1])))
  total = jnp.concatenate(parts)[np.argsort(order)]
  return total.reshape(-1, batch).T


def _column(pieces: Array, blocks: Array, w: BlockSparse, most: int, dtype: DTypeLike,
            run: tuple[Array, Array]) -> Array:
  """Returns (width, batch): the product with one column, whose run starts and ends at `run`.

  In a loop all runs are as long as the longest, `most`; what is too much meets zeros.
  """
  (first, last), (height, width), zero = run, w.block, pieces.shape[0] - 1
  # A run near the end starts sooner, so as not to reach beyond the last block.
  start = jnp.minimum(first, blocks.shape[0] - most)
  at = start + jnp.arange(most)
  rows = jax.lax.dynamic_slice_in_dim(w.rows, start, most)
  rows = jnp.where((at >= first) & (at < last), rows, zero)
  taken = jnp.take(pieces, rows, axis=0, mode="clip").reshape(most * height, -1)
  stored = jax.lax.dynamic_slice_in_dim(blocks, start, most)
  return dot(stored.transpose(2, 0, 1).reshape(width, most * height), taken, dtype)


def dot(a: Array, b: Array, dtype: DTypeLike, on: int = 1) -> Array:
  """Returns the product of two matrices.

  Args:
    a: (rows, summed), or (summed, rows) for `on` 0.
    b: (summed, columns).
    dtype: of the sums and the result.
    on: the axis of `a` that is summed over.

  Returns:
    (rows, columns).
  """
  # float32 is not rounded to fewer bits, as GPUs and TPUs do by default.
  return jax.lax.dot_general(a, b, (((on,), (0,)), ((), ())), preferred_element_type=dtype,
                             precision=jax.lax.Precision.HIGHEST)


def input_gradient(g: Array, w: BlockSparse) -> Array:
  """Returns g @ W transposed, adding up by row, whose counts need not be known.

  Args:
    g: (batch, outputs filled up), the result's gradient.
    w: the weight.

  Returns:
    (batch, inputs filled up), float32.
  """
  given = _wide(g).reshape(g.shape[0], -1, w.block[1])[:, w.columns()]
  parts = jnp.einsum("bnw,nhw->nbh", given, _wide(w.blocks.astype(g.dtype)), precision="highest")
  total = jax.ops.segment_sum(parts, w.rows, w.tiles[0])
  return total.swapaxes(0, 1).reshape(g.shape[0], -1)


def block_gradient(x: Array, g: Array, w: BlockSparse) -> Array:
  """Returns the gradient of the stored blocks: (count, height, width), float32.

  Args:
    x: (batch, inputs filled up).
    g: (batch, outputs filled up), the result's gradient.
    w: the weight.
  """
  height, width = w.block
  taken = _wide(x).reshape(x.shape[0], -1, height)[:, w.rows]
  given = _wide(g).reshape(g.shape[0], -1, width)[:, w.columns()]
  return jnp.einsum("bnh,bnw->nhw", taken, given, precision="highest")


def _wide(x: Array) -> Array:
  """Returns x as float32: XLA's CPU backend has no batched product of bfloat16 into it."""
  return x.astype(jnp.float32)

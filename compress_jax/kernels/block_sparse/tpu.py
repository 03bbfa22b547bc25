"""The block-sparse product on a TPU (Pallas, Mosaic): one grid step a stored block.

The block's row picks the piece of x and its column the piece of the result, by
scalar prefetch, before the step runs. Blocks come column by column, so that the
sum stays in fast memory until the column ends. A column without blocks gets one
step that only writes zeros.

Not checked without a TPU: speed, and that the tiling suits the chip's memories.
Both interpret modes run it on a CPU, and it is lowered for TPU there.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

BATCH_TILE = 128


def supports(x: Array, w: BlockSparse) -> str | None:
  """Returns why the kernel cannot run this product, or None."""
  height, width = w.block
  if height % 8 or width % 8:
    return f"block={w.block}: the TPU kernel takes multiples of 8"
  kinds = {jnp.dtype(t) for t in ("float32", "bfloat16", "int8")}
  if x.dtype not in kinds or w.blocks.dtype not in kinds:
    return f"dtypes {x.dtype} and {w.blocks.dtype}: the TPU kernel takes float32, bfloat16, int8"
  return None


def matmul(x: Array, w: BlockSparse, interpret: Any = False) -> Array:
  """Returns x @ W before any scale; see `reference.matmul`.

  Args:
    x: (batch, inputs filled up to whole blocks).
    w: the weight.
    interpret: False, True or `pltpu.InterpretParams()`.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  batch = x.shape[0]
  tile = min(BATCH_TILE, -(-batch // 8) * 8)
  x = jnp.pad(x, ((0, -batch % tile), (0, 0)))
  steps = _steps(w)
  (height, width), (_, columns) = w.block, w.tiles
  out = jnp.int32 if jnp.issubdtype(x.dtype, jnp.integer) else jnp.float32
  blocks = w.blocks if w.blocks.shape[0] else jnp.zeros((1, height, width), w.blocks.dtype)
  spec = pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=4, grid=(x.shape[0] // tile, steps[0].shape[0]),
      in_specs=[pl.BlockSpec((tile, height), lambda i, s, block, row, column, kind: (i, row[s])),
                pl.BlockSpec((1, height, width),
                             lambda i, s, block, row, column, kind: (block[s], 0, 0))],
      out_specs=pl.BlockSpec((tile, width), lambda i, s, block, row, column, kind: (i, column[s])))
  call = pl.pallas_call(
      functools.partial(_kernel, out=out), grid_spec=spec, interpret=interpret,
      out_shape=jax.ShapeDtypeStruct((x.shape[0], columns * width), out),
      compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")))
  return call(*steps, x, blocks)[:batch]


def _steps(w: BlockSparse) -> tuple[Array, ...]:
  """Returns (block, row, column, kind) of every step; kind: 0 adds, 1 starts, 2 is empty."""
  count, empty = w.blocks.shape[0], np.flatnonzero(np.asarray(w.counts) == 0)
  column = np.concatenate([w.columns(), empty]).astype(np.int32)
  kind = np.full(column.shape, 2, np.int32)
  kind[:count] = np.isin(np.arange(count), w.starts)
  order = np.argsort(column, kind="stable")
  block = np.concatenate([np.arange(count), np.zeros(len(empty))]).astype(np.int32)
  row = jnp.concatenate([w.rows, jnp.zeros(len(empty), jnp.int32)])
  return jnp.asarray(block[order]), row[order], jnp.asarray(column[order]), jnp.asarray(kind[order])


def _kernel(block: Any, row: Any, column: Any, kind: Any, x: Any, w: Any, y: Any, *,
            out: Any) -> None:
  step = kind[pl.program_id(1)]

  @pl.when((step == 1) | (step == 2))
  def _():
    y[...] = jnp.zeros_like(y)

  @pl.when(step < 2)
  def _():
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    y[...] += jax.lax.dot_general(x[...], w[0], (((1,), (0,)), ((), ())), precision=precision,
                                  preferred_element_type=out)

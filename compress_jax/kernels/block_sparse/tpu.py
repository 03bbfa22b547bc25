"""The block-sparse product on a TPU (Pallas, Mosaic): one grid step per stored block.

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

BATCH_TILE = 128  # rows of x that a step multiplies, at most
_DTYPES = ("float32", "bfloat16", "int8")
_SUBLANES, _LANES = 8, 128  # rows and columns that a TPU's registers hold
# What a step does.
_ADDS, _STARTS, _EMPTIES = 0, 1, 2


def supports(x: Array, w: BlockSparse, compiled: bool = True) -> str | None:
  """Returns why the kernel cannot run this product, or None if it can.

  Args:
    x: (batch, inputs), or anything that has its dtype.
    w: the weight.
    compiled: whether for a TPU; the interpreter takes narrower blocks too.
  """
  if any(side % _SUBLANES for side in w.block):
    return f"block={w.block}: the TPU kernel takes multiples of {_SUBLANES}"
  # A block's sides are the last axes of a piece of x and of a piece of the result, which Mosaic
  # takes in whole registers or whole.
  if compiled and any(side % _LANES and count > 1
                      for side, count in zip(w.block, w.tiles, strict=True)):
    return (f"block={w.block}: the TPU kernel takes multiples of {_LANES}, or a single block along "
            "an axis")
  for operand in (x, w.blocks):
    if jnp.dtype(operand.dtype).name not in _DTYPES:
      return (f"dtypes {x.dtype} and {w.blocks.dtype}: the TPU kernel takes "
              f"{', '.join(_DTYPES)}")
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
  tile = min(BATCH_TILE, -(-batch // _SUBLANES) * _SUBLANES)
  x = jnp.pad(x, ((0, -batch % tile), (0, 0)))
  (height, width), (_, columns) = w.block, w.tiles
  out = jnp.int32 if jnp.issubdtype(x.dtype, jnp.integer) else jnp.float32
  steps, blocks = _steps(w), w.blocks
  if not blocks.shape[0]:
    # Steps of columns without blocks still need one to point at.
    blocks = jnp.zeros((1, height, width), blocks.dtype)

  # Where a step's operands and its sum are, in units of their blocks.
  def piece_at(i, step, block, row, column, kind):
    return i, row[step]

  def block_at(i, step, block, row, column, kind):
    return block[step], 0, 0

  def sum_at(i, step, block, row, column, kind):
    return i, column[step]

  spec = pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=len(steps), grid=(x.shape[0] // tile, steps[0].shape[0]),
      in_specs=[pl.BlockSpec((tile, height), piece_at),
                pl.BlockSpec((1, height, width), block_at)],
      out_specs=pl.BlockSpec((tile, width), sum_at))
  # A column's steps must follow each other, as they add to one sum; tiles of the batch need not.
  call = pl.pallas_call(
      functools.partial(_kernel, out=out), grid_spec=spec, interpret=interpret,
      out_shape=jax.ShapeDtypeStruct((x.shape[0], columns * width), out),
      compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")))
  return call(*steps, x, blocks)[:batch]


def _steps(w: BlockSparse) -> tuple[Array, ...]:
  """Returns (block, row, column, kind) of every step, column by column: int32, (steps,) each.

  `kind` is one of `_ADDS`, `_STARTS` (the first of its column) and `_EMPTIES` (there is no
  block in its column).
  """
  count, empty = w.blocks.shape[0], np.flatnonzero(np.asarray(w.counts) == 0)
  column = np.concatenate([w.columns(), empty]).astype(np.int32)
  kind = np.full(column.shape, _EMPTIES, np.int32)
  kind[:count] = np.where(np.isin(np.arange(count), w.starts), _STARTS, _ADDS)
  order = np.argsort(column, kind="stable")
  block = np.concatenate([np.arange(count), np.zeros(len(empty))]).astype(np.int32)
  row = jnp.concatenate([w.rows, jnp.zeros(len(empty), jnp.int32)])
  return jnp.asarray(block[order]), row[order], jnp.asarray(column[order]), jnp.asarray(kind[order])


def _kernel(block: Any, row: Any, column: Any, kind: Any, x: Any, w: Any, y: Any, *,
            out: Any) -> None:
  """Adds one block's product to its column's sum, `y`, which stays in fast memory."""
  step = kind[pl.program_id(1)]

  @pl.when((step == _STARTS) | (step == _EMPTIES))
  def _():
    y[...] = jnp.zeros_like(y)

  @pl.when(step < _EMPTIES)
  def _():
    # float32 is not rounded to bfloat16, as it is by default.
    precision = jax.lax.Precision.HIGHEST if x.dtype == jnp.float32 else None
    y[...] += jax.lax.dot_general(x[...], w[0], (((1,), (0,)), ((), ())), precision=precision,
                                  preferred_element_type=out)

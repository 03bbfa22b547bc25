"""draft"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

BATCH_TILE = 128


def matmul(x: Array, w: BlockSparse, interpret: Any = False) -> Array:
  batch = x.shape[0]
  tile = 64 if batch <= 64 else BATCH_TILE
  x = jnp.pad(x, ((0, -batch % tile), (0, 0)))
  (height, width), (_, columns) = w.block, w.tiles
  starts = jnp.asarray(w.starts, jnp.int32)
  params = {"interpret": interpret} if interpret else {}
  call = plgpu.kernel(
      functools.partial(_kernel, tile=tile, height=height, width=width),
      out_type=jax.ShapeDtypeStruct((x.shape[0], columns * width), jnp.float32),
      grid=(x.shape[0] // tile, columns), grid_names=("i", "j"),
      compiler_params=plgpu.CompilerParams(
          lowering_semantics=plgpu.LoweringSemantics.Warpgroup), **params)
  return call(starts, w.rows, x, w.blocks)[:batch]


def _transforms(dtype, columns):
  swizzle = plgpu.find_swizzle(columns * jnp.dtype(dtype).itemsize * 8)
  return (plgpu.TilingTransform((8, swizzle // jnp.dtype(dtype).itemsize)),
          plgpu.SwizzleTransform(swizzle))


def _kernel(starts, rows, x, blocks, y, *, tile, height, width):
  i, j = jax.lax.axis_index("i"), jax.lax.axis_index("j")
  first = starts[j]
  count = starts[j + 1] - first

  def summed(acc):
    def step(_, xs, ws):
      plgpu.wgmma(acc, xs, ws)
    plgpu.emit_pipeline(
        step, grid=(count,),
        in_specs=[
            plgpu.BlockSpec((tile, height), lambda k: (i, rows[first + k]),
                            transforms=_transforms(x.dtype, height), delay_release=1),
            plgpu.BlockSpec((None, height, width), lambda k: (first + k, 0, 0),
                            transforms=_transforms(x.dtype, width), delay_release=1),
        ],
        max_concurrent_steps=3)(x, blocks)
    return acc[...]
  total = pl.run_scoped(summed, plgpu.ACC((tile, width)))

  def store(out):
    out[...] = total
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(out, y.at[pl.ds(i * tile, tile), pl.ds(j * width, width)])
    plgpu.wait_smem_to_gmem(0)
  pl.run_scoped(store, plgpu.SMEM((tile, width), jnp.float32, transforms=_transforms(jnp.float32, width)))

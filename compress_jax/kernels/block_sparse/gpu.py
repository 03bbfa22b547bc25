"""The block-sparse product on a Hopper GPU (Pallas, Mosaic GPU): one program per result tile.

A program sums one column's run of blocks for one tile of the batch. The run's
bounds and each block's row are read from device memory as it goes: they pick the
piece of x that is copied in next, while the tensor cores (wgmma) work on the last.
An empty run sums to zeros, which are written like any other sum.

Not checked without such a GPU: its values on the chip, and speed. It is lowered for
CUDA on any host; Mosaic's compiler and ptxas for sm_90a took all that `supports`
does, with no register spilled (by hand, JAX 0.12's). Where JAX has a Mosaic GPU
interpreter it runs there on a CPU. That one does each wgmma at once: it would not
show a buffer that is filled again too early.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

BATCH_TILE = 128  # rows of x; half of it where the batch is no larger
SIDES = (64, 128)  # of blocks: what wgmma multiplies without remainders
DTYPES = ("bfloat16", "float16", "int8")
# Bytes for operands, of the 227 KiB of shared memory that a program may have.
_SHARED = 200 * 1024
_STEPS = 4  # whose operands are copied in ahead, if they fit


def available() -> bool:
  """Returns whether the default device is a Hopper GPU."""
  if jax.default_backend() != "gpu":
    return False
  return str(getattr(jax.devices()[0], "compute_capability", "")).startswith("9.")


def supports(x: Array, w: BlockSparse) -> str | None:
  """Returns why the kernel cannot run this product, or None if it can.

  Args:
    x: (batch, inputs), or anything that has its dtype.
    w: the weight.
  """
  if not set(w.block) <= set(SIDES):
    return f"block={w.block}: the GPU kernel takes sides of 64 and 128"
  if jnp.dtype(x.dtype).name not in DTYPES:
    return f"x has dtype {x.dtype}: the GPU kernel takes {', '.join(DTYPES)}"
  return None


def matmul(x: Array, w: BlockSparse, interpret: Any = False) -> Array:
  """Returns x @ W before any scale; see `reference.matmul`.

  Args:
    x: (batch, inputs filled up to whole blocks), bfloat16, float16 or int8.
    w: the weight; blocks of another dtype are converted to x's.
    interpret: False, or `plgpu.InterpretGPUParams()` where JAX has it.

  Returns:
    (batch, outputs filled up), float32, or int32 of integers by integers.
  """
  batch, width, columns = x.shape[0], w.block[1], w.tiles[1]
  out = jnp.int32 if x.dtype == jnp.int8 else jnp.float32
  if not w.blocks.shape[0]:
    return jnp.zeros((batch, columns * width), out)
  tile = BATCH_TILE // 2 if batch <= BATCH_TILE // 2 else BATCH_TILE
  x = jnp.pad(x, ((0, -batch % tile), (0, 0)))
  blocks = w.blocks.astype(x.dtype)
  if x.dtype == jnp.int8:
    blocks = blocks.swapaxes(1, 2)  # wgmma takes bytes only with the summed axis last
  # The batch is the inner axis: programs that run together share a column's blocks.
  call = plgpu.kernel(
      functools.partial(_kernel, tile=tile, width=width),
      out_type=jax.ShapeDtypeStruct((x.shape[0], columns * width), out),
      grid=(columns, x.shape[0] // tile), grid_names=("column", "batch"), interpret=interpret,
      compiler_params=plgpu.CompilerParams(
          lowering_semantics=plgpu.LoweringSemantics.Warpgroup))
  return call(jnp.asarray(w.starts, jnp.int32), w.rows, x, blocks)[:batch]


def _kernel(starts: Any, rows: Any, x: Any, blocks: Any, y: Any, *, tile: int,
            width: int) -> None:
  """Writes one tile of the result, (tile, width), at this program's place in the grid."""
  column, batch = jax.lax.axis_index("column"), jax.lax.axis_index("batch")
  start = starts[column]
  total = pl.run_scoped(
      functools.partial(_sum, start, starts[column + 1] - start, batch, rows, x, blocks),
      # JAX imports it by another name: type checkers take it for private.
      plgpu.ACC((tile, width), y.dtype))  # pyright: ignore[reportPrivateImportUsage]

  # Allocated when the operands' buffers are free again, in their place.
  buffer = plgpu.SMEM((tile, width), y.dtype, transforms=_layout(width, y.dtype))

  @functools.partial(pl.run_scoped, out=buffer)
  def _(out):
    out[...] = total
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(
        out, y.at[pl.ds(batch * tile, tile), pl.ds(column * width, width)])
    plgpu.wait_smem_to_gmem(0)


def _sum(start: Array, count: Array, batch: Array, rows: Any, x: Any, blocks: Any,
         total: Any) -> Array:
  """Returns a tile of the batch times `count` blocks of one column, the first at `start`."""
  (_, *shape), (tile, width), dtype = blocks.shape, total.shape, x.dtype
  height = shape[0] * shape[1] // width
  piece = plgpu.BlockSpec((tile, height), lambda k: (batch, rows[start + k]), delay_release=1,
                          transforms=_layout(height, dtype))
  block = plgpu.BlockSpec((None, *shape), lambda k: (start + k, 0, 0), delay_release=1,
                          transforms=_layout(shape[1], dtype))

  def step(_, piece, block):
    # Bytes lie transposed, see `matmul`.
    plgpu.wgmma(total, piece, block.transpose((1, 0)) if dtype == jnp.int8 else block)
    # All but this one are done: the last step's buffers, released now, are no longer read.
    plgpu.wgmma_wait(1)

  size = height * (tile + width) * jnp.dtype(dtype).itemsize
  plgpu.emit_pipeline(step, grid=(count,), in_specs=[piece, block],
                      max_concurrent_steps=min(_STEPS, _SHARED // size))(x, blocks)
  return total[...]


def _layout(columns: int, dtype: Any) -> tuple[Any, ...]:
  """Returns how a tile of that many columns lies in shared memory, as wgmma reads it."""
  size = jnp.dtype(dtype).itemsize
  swizzle = plgpu.find_swizzle(columns * size * 8)
  # JAX's own transforms lack a method that their base class calls abstract.
  tiling = plgpu.TilingTransform((8, swizzle // size))  # pyright: ignore[reportAbstractUsage]
  return tiling, plgpu.SwizzleTransform(swizzle)  # pyright: ignore[reportAbstractUsage]

"""The block-sparse product on a Hopper GPU (Pallas, Mosaic GPU): one program per result tile.

A program sums one column's run of blocks for one tile of the batch. The run's
bounds and each block's row are read from device memory as it goes: they pick the
piece of x that is copied in next, while the tensor cores (wgmma) work on the last.
An empty run sums to zeros, which are written like any other sum.

Seen on an H100 (JAX 0.11.2): sums in bfloat16 are right to the last rounding, and the product
of a 90 % pruned matrix is 3 to 6 times as fast as cuBLAS's dense one (`benchmarks/README.md`). It
is lowered for CUDA on any host. Where JAX has a Mosaic GPU interpreter it runs there on a CPU.
That one does each wgmma at once: it would not show a buffer that is filled again too early.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.typing import DTypeLike

from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

BATCH_TILE = 128  # rows of x; half of it where the batch is no larger
SIDES = (64, 128)  # of blocks: what wgmma multiplies without remainders
DTYPES = ("bfloat16", "float16", "int8")
_STEP_BYTES = 128  # of a row of x in one step: as wide as a swizzled row may be
# Bytes for operands: half of the 227 KiB of shared memory, so that a processor runs two programs
# and one computes while the other waits or writes.
_SHARED = 112 * 1024
_STEPS = 4  # whose operands are copied in ahead, if they fit
_GROUP = 8  # tiles of the batch that all columns are computed for before the next ones


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


def matmul(x: Array, w: BlockSparse, out: DTypeLike | None = None, interpret: Any = False) -> Array:
  """Returns x @ W before any scale; see `reference.matmul`.

  Args:
    x: (batch, inputs filled up to whole blocks), bfloat16, float16 or int8.
    w: the weight; blocks of another dtype are converted to x's.
    out: dtype of the result, a float; sums are rounded to it before they are written. None
      keeps them as they are.
    interpret: False, or `plgpu.InterpretGPUParams()` where JAX has it.

  Returns:
    (batch, outputs filled up) of dtype `out`, or float32; int32 of integers by integers.
  """
  batch, width, columns = x.shape[0], w.block[1], w.tiles[1]
  sums = jnp.int32 if x.dtype == jnp.int8 else jnp.float32
  out = sums if out is None else out
  if not w.blocks.shape[0]:
    return jnp.zeros((batch, columns * width), out)
  tile = BATCH_TILE // 2 if batch <= BATCH_TILE // 2 else BATCH_TILE
  x = jnp.pad(x, ((0, -batch % tile), (0, 0)))
  blocks = w.blocks.astype(x.dtype)
  if x.dtype == jnp.int8:
    blocks = blocks.swapaxes(1, 2)  # wgmma takes bytes only with the summed axis last
  tiles = x.shape[0] // tile
  group = max(size for size in range(1, _GROUP + 1) if tiles % size == 0)
  # Programs that run together take few rows of x and all blocks, which then stay in the second
  # level's cache: with all rows of few columns, x is read again from memory for each column.
  call = plgpu.kernel(
      functools.partial(_kernel, tile=tile, block=w.block, sums=sums),
      out_type=jax.ShapeDtypeStruct((x.shape[0], columns * width), out),
      grid=(tiles // group, columns, group), grid_names=("group", "column", "tile"),
      interpret=interpret,
      compiler_params=plgpu.CompilerParams(
          lowering_semantics=plgpu.LoweringSemantics.Warpgroup))
  return call(jnp.asarray(w.starts, jnp.int32), w.rows, x, blocks)[:batch]


def _kernel(starts: Any, rows: Any, x: Any, blocks: Any, y: Any, *, tile: int,
            block: tuple[int, int], sums: Any) -> None:
  """Writes one tile of the result, (tile, width), at this program's place in the grid."""
  column, width = jax.lax.axis_index("column"), block[1]
  batch = jax.lax.axis_index("group") * jax.lax.axis_size("tile") + jax.lax.axis_index("tile")
  start = starts[column]
  total = pl.run_scoped(
      functools.partial(_sum, start, starts[column + 1] - start, batch, rows, x, blocks, block[0]),
      # JAX imports it by another name: type checkers take it for private.
      plgpu.ACC((tile, width), sums))  # pyright: ignore[reportPrivateImportUsage]

  # Allocated when the operands' buffers are free again, in their place.
  buffer = plgpu.SMEM((tile, width), y.dtype, transforms=_layout(width, y.dtype))

  @functools.partial(pl.run_scoped, out=buffer)
  def _(out):
    out[...] = total.astype(y.dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(
        out, y.at[pl.ds(batch * tile, tile), pl.ds(column * width, width)])
    plgpu.wait_smem_to_gmem(0)


def _sum(start: Array, count: Array, batch: Array, rows: Any, x: Any, blocks: Any, height: int,
         total: Any) -> Array:
  """Returns a tile of the batch times `count` blocks of one column, the first at `start`."""
  (tile, width), dtype = total.shape, x.dtype
  turned = dtype == jnp.int8  # bytes lie transposed, see `matmul`
  # A step takes a part of a block's rows: small copies overlap better than large ones.
  depth = min(height, _STEP_BYTES // jnp.dtype(dtype).itemsize)
  parts = height // depth

  def at(step: Array) -> tuple[Array, Array]:
    """Returns a step's block, and which part of it."""
    return start + step // parts, step % parts

  def piece_at(step: Array) -> tuple[Array, Array]:
    block, part = at(step)
    return batch, rows[block] * parts + part

  def block_at(step: Array) -> tuple[Array | int, ...]:
    block, part = at(step)
    return (block, 0, part) if turned else (block, part, 0)

  shape = (width, depth) if turned else (depth, width)
  piece = plgpu.BlockSpec((tile, depth), piece_at, delay_release=1,
                          transforms=_layout(depth, dtype))
  block = plgpu.BlockSpec((None, *shape), block_at, delay_release=1,
                          transforms=_layout(shape[1], dtype))

  def step(_, piece, block):
    plgpu.wgmma(total, piece, block.transpose((1, 0)) if turned else block)
    # All but this one are done: the last step's buffers, released now, are no longer read.
    plgpu.wgmma_wait(1)

  size = depth * (tile + width) * jnp.dtype(dtype).itemsize
  plgpu.emit_pipeline(step, grid=(count * parts,), in_specs=[piece, block],
                      max_concurrent_steps=min(_STEPS, _SHARED // size))(x, blocks)
  return total[...]


def _layout(columns: int, dtype: Any) -> tuple[Any, ...]:
  """Returns how a tile of that many columns lies in shared memory, as wgmma reads it."""
  size = jnp.dtype(dtype).itemsize
  swizzle = plgpu.find_swizzle(columns * size * 8)
  # JAX's own transforms lack a method that their base class calls abstract.
  tiling = plgpu.TilingTransform((8, swizzle // size))  # pyright: ignore[reportAbstractUsage]
  return tiling, plgpu.SwizzleTransform(swizzle)  # pyright: ignore[reportAbstractUsage]

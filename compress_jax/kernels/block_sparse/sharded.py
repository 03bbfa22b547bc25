"""The block-sparse product over a mesh: every device holds some columns of blocks."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from compress_jax import checks
from compress_jax.kernels.block_sparse import api
from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse


def shard(w: BlockSparse, mesh: Mesh, axis: str) -> BlockSparse:
  """Lays a weight out over a mesh, in equal parts of its columns of blocks.

  Devices run one program, so every part gets as many blocks in its n-th column as
  the part with the most there; the others are filled up with blocks of zeros.

  Args:
    w: a matrix with concrete indices, without a grid for its input.
    mesh: of devices.
    axis: name of the mesh's axis.

  Returns:
    The parts: a leaf whose arrays have one more axis in front, as long as the
    mesh's axis and sharded over it. It is for `sharded_matmul` alone.

  Raises:
    ValueError: traced indices, more than two dimensions, or no such axis.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> mesh = jax.make_mesh((1,), ("model",))
    >>> parts = shard(cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2)), mesh, "model")
    >>> parts.blocks.shape
    (1, 2, 2, 2)
  """
  if axis not in mesh.shape:
    raise ValueError(f"axis={axis!r}: must be one of {', '.join(mesh.shape)}")
  if len(w.shape) != 2 or w.input is not None or checks.concrete(w.rows) is None:
    raise ValueError("w: must be a matrix with concrete indices and no grid for its input")
  w.validate()
  index, rows, counts = _parts(w, mesh.shape[axis])
  # One block of zeros behind the others, for all places that are only filled up.
  blocks = jnp.concatenate([w.blocks, jnp.zeros_like(w.blocks[:1], shape=(1, *w.block))])
  scale = None if w.scale is None else _scales(w.scale, w, len(rows), len(counts))
  parts = dataclasses.replace(w, blocks=blocks[index], rows=jnp.asarray(rows), scale=scale,
                              counts=counts, row_counts=())
  return jax.device_put(parts, NamedSharding(mesh, P(axis)))


def _parts(w: BlockSparse, parts: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
  """Returns which blocks each part holds.

  Args:
    w: the weight.
    parts: how many.

  Returns:
    index: int32, (parts, blocks of a part), each a block of `w`; one past the last is
      a block of zeros.
    rows: int32 like index, the row of blocks each is in; negative (~row) where the
      block only fills up: it stays zero, with no gradient.
    counts: how many blocks each column of a part has, the same for all parts.
  """
  per_part = -(-len(w.counts) // parts)
  counts = np.zeros(parts * per_part, int)  # the last part may have columns too many
  counts[:len(w.counts)] = w.counts
  most = counts.reshape(parts, per_part).max(0)
  starts, every_row = np.cumsum(counts) - counts, np.asarray(w.rows)
  index, rows = [], []
  for column, (start, count) in enumerate(zip(starts, counts, strict=True)):
    own = every_row[start:start + count]
    free = np.setdiff1d(np.arange(w.tiles[0]), own)[:most[column % per_part] - count]
    blocks, at = _filled_column(start, own, free, zeros=len(every_row))
    index.append(blocks)
    rows.append(at)
  index = np.concatenate(index).astype(np.int32).reshape(parts, -1)
  rows = np.concatenate(rows).astype(np.int32).reshape(parts, -1)
  return index, rows, tuple(most.tolist())


def _filled_column(start: int, own: np.ndarray, free: np.ndarray,
                   zeros: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns a column's blocks and their rows, filled up; see `_parts`.

  Args:
    start: the column's first block.
    own: the rows of its blocks.
    free: the rows that are filled up, as rows of a column must differ.
    zeros: the block of zeros.
  """
  blocks = np.concatenate([np.arange(start, start + len(own)), np.full(len(free), zeros)])
  rows, marked = np.concatenate([own, free]), np.concatenate([own, ~free])
  # Rows of a column must rise, too.
  order = np.argsort(rows)
  return blocks[order], marked[order]


def _scales(scale: Array, w: BlockSparse, parts: int, columns: int) -> Array:
  """Returns the scales of each part's outputs: (parts, outputs of a part)."""
  scale = jnp.broadcast_to(scale, (w.matrix[1],))
  return jnp.pad(scale, (0, parts * columns * w.block[1] - scale.size)).reshape(parts, -1)


def sharded_matmul(x: Array, parts: BlockSparse, *, mesh: Mesh, axis: str) -> Array:
  """Returns x @ W, each device multiplying with its own columns of blocks.

  Args:
    x: (..., inputs), the same on every device.
    parts: what `shard` returned for this mesh and axis.
    mesh: of devices.
    axis: name of the mesh's axis.

  Returns:
    (..., outputs), as `matmul` gives it: sharded along the last axis if the parts
    fill it exactly, else whole on every device. Differentiable in x and in the
    parts' float blocks.

  Raises:
    ValueError: operands that do not belong together.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> mesh = jax.make_mesh((1,), ("model",))
    >>> parts = shard(cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2)), mesh, "model")
    >>> sharded_matmul(jnp.arange(4.0)[None], parts, mesh=mesh, axis="model").tolist()
    [[0.0, 1.0, 2.0, 3.0]]
  """
  if parts.rows.ndim != 2 or parts.rows.shape[0] != mesh.shape[axis]:
    raise ValueError(f"parts have rows of shape {parts.rows.shape}: must be what `shard` returns "
                     f"for {mesh.shape[axis]} devices")
  inputs, outputs = parts.shape
  # Not of `parts.block`: these blocks have one more axis in front.
  width = len(parts.counts) * parts.blocks.shape[-1]
  filled_exactly = outputs == width * mesh.shape[axis]

  def local(x: Array, part: BlockSparse) -> Array:
    """Returns one device's outputs, or everyone's where they are cut off afterwards."""
    own = _own(jax.tree.map(lambda a: a[0], part), (inputs, width))
    y = api.matmul(x, own)
    if filled_exactly:
      return y
    return jax.lax.all_gather(y, axis, axis=y.ndim - 1, tiled=True)

  before = [None] * (x.ndim - 1)
  out = P(*before, axis) if filled_exactly else P()
  run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(axis)), out_specs=out, check_vma=False)
  return run(x, parts)[..., :outputs]


def _own(part: BlockSparse, dims: tuple[int, int]) -> BlockSparse:
  """Returns a part as a weight of its own, with zeros, and no gradient, where it is filled up."""
  stored = part.rows >= 0
  return dataclasses.replace(
      part, rows=jnp.where(stored, part.rows, ~part.rows), dims=dims,
      blocks=jnp.where(stored[:, None, None], part.blocks, 0))

"""The block-sparse product over a mesh: every device holds some columns of blocks."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from compress_jax import tree
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
    raise ValueError(f"axis={axis!r}: may be one of {', '.join(mesh.shape)}")
  if len(w.shape) != 2 or w.input is not None or tree.concrete(w.rows) is None:
    raise ValueError("w: may be a matrix with concrete indices and no grid for its input")
  w.validate()
  index, rows, counts = _parts(w, mesh.shape[axis])
  filled = jnp.concatenate([w.blocks, jnp.zeros_like(w.blocks[:1], shape=(1, *w.block))])
  parts = dataclasses.replace(
      w, blocks=filled[index], rows=jnp.asarray(rows), counts=counts, row_counts=(),
      scale=None if w.scale is None else _scales(w, len(rows), len(counts)))
  return jax.device_put(parts, NamedSharding(mesh, P(axis)))


def _parts(w: BlockSparse, parts: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
  """Returns which block (the last is zeros) and which row each part's blocks are, and counts."""
  per, starts, rows = -(-len(w.counts) // parts), w.starts, np.asarray(w.rows)
  counts = np.zeros(parts * per, int)
  counts[:len(w.counts)] = w.counts
  most = counts.reshape(parts, per).max(0)
  index, at = [], []
  for column, count in enumerate(counts):
    start = starts[column] if count else 0
    own = rows[start:start + count]
    free = np.setdiff1d(np.arange(w.tiles[0]), own)[:most[column % per] - count]
    both = np.concatenate([own, free])
    blocks = np.concatenate([np.arange(start, start + count), np.full(len(free), len(rows))])
    order = np.argsort(both)
    index.append(blocks[order])
    # A negative row marks a block that only fills up: it stays zero, with no gradient.
    at.append(np.where(blocks == len(rows), ~both, both)[order])
  shaped = lambda runs: np.concatenate(runs).astype(np.int32).reshape(parts, -1)
  return shaped(index), shaped(at), tuple(most.tolist())


def _scales(w: BlockSparse, parts: int, columns: int) -> Array:
  scale = jnp.broadcast_to(w.scale, (w.matrix[1],))
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
  width = len(parts.counts) * parts.block[1]
  whole = outputs == width * mesh.shape[axis]

  def local(x: Array, part: BlockSparse) -> Array:
    y = api.matmul(x, _own(jax.tree.map(lambda a: a[0], part), (inputs, width)))
    return y if whole else jax.lax.all_gather(y, axis, axis=y.ndim - 1, tiled=True)

  out = P(*[None] * (x.ndim - 1), axis) if whole else P()
  run = jax.shard_map(local, mesh=mesh, in_specs=(P(), P(axis)), out_specs=out, check_vma=False)
  return run(x, parts)[..., :outputs]


def _own(part: BlockSparse, dims: tuple[int, int]) -> BlockSparse:
  stored = part.rows >= 0
  return dataclasses.replace(
      part, rows=jnp.where(stored, part.rows, ~part.rows), dims=dims,
      blocks=jnp.where(stored[:, None, None], part.blocks, 0))

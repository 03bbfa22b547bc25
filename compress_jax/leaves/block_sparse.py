"""`BlockSparse`: a matrix of which only some blocks are stored."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.leaves import base
from compress_jax.leaves.activation import Activation, Dynamic
from compress_jax.leaves.base import Array, Leaf, Payload


@base.node
class BlockSparse(Leaf):
  """Stands for the dense matrix that its blocks tile; a kernel is one of (all else, outputs).

  Blocks lie column by column, so that each column of a result sums one run of
  them, rows rising. How many a column has is part of the structure, like a shape:
  a compiled program fits it. Where a block does not divide the matrix, the blocks
  at its edges are filled up with zeros.

  Attributes:
    blocks: (count, height, width), float (trains) or int8.
    rows: int32, (count,), the row of blocks that each is in.
    scale: float32, (outputs,) or (1,), what an integer stands for; None for floats.
    input: how `lift` quantizes what an integer weight is applied to, or None.
    dims: shape of the array it stands for.
    counts: how many blocks each column of blocks has.
    row_counts: how many each row of blocks has; empty if not known (a shard).
    bits: bits that an element needs.
    of: name of the dtype of the array it stands for.

  Example:
    >>> import jax.numpy as jnp
    >>> w = BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
    >>> w.blocks.shape, w.rows.tolist(), w.counts
    ((2, 2, 2), [0, 1], (1, 1))
  """

  blocks: Array
  rows: Array
  scale: Array | None
  input: Activation | Dynamic | None
  dims: tuple[int, ...] = base.static()
  counts: tuple[int, ...] = base.static()
  row_counts: tuple[int, ...] = base.static()
  bits: int = base.static(default=32)
  of: str = base.static(default="float32")

  trains = ("blocks",)

  def __post_init__(self):
    # From JSON they come as lists, which are no key of a compiled program.
    for name in ("dims", "counts", "row_counts"):
      object.__setattr__(self, name, tuple(getattr(self, name)))

  @classmethod
  def from_dense(cls, w: Array, block: tuple[int, int] = (64, 64), *, scale: Array | None = None,
                 input: Activation | Dynamic | None = None, bits: int | None = None,
                 of: str | None = None) -> BlockSparse:
    """Stores the blocks of an array that hold anything but zeros.

    Args:
      w: concrete array of at least two dimensions, float or int8.
      block: rows and columns; rows are all axes but the last, taken together.
      scale: as in the attributes, for integers.
      input: as in the attributes.
      bits: as in the attributes; by default the dtype's.
      of: as in the attributes; by default `w`'s, or float32 for integers.

    Returns:
      The leaf; `dense()` gives `w` (times `scale`) again.

    Raises:
      ValueError: w is traced or has fewer than two dimensions, or a block is empty.
    """
    if isinstance(w, jax.core.Tracer) or w.ndim < 2:
      raise ValueError("w: may be a concrete array of two or more dimensions; its zeros decide "
                       "what is stored")
    if len(block) != 2 or min(block) < 1:
      raise ValueError(f"block={block}: may be two whole numbers from 1")
    tiles = _tiled(np.asarray(w).reshape(-1, w.shape[-1]), block)
    kept = (tiles != 0).any((2, 3))
    columns, rows = np.nonzero(kept.T)
    default = "float32" if jnp.issubdtype(w.dtype, jnp.integer) else jnp.dtype(w.dtype).name
    return cls(jnp.asarray(tiles[rows, columns]), jnp.asarray(rows, jnp.int32), scale, input,
               dims=w.shape, counts=kept.sum(0).tolist(), row_counts=kept.sum(1).tolist(),
               bits=base.bits_of(w.dtype) if bits is None else bits, of=of or default)

  @staticmethod
  def fits(shape: tuple[int, ...]) -> bool:
    """Returns whether a weight runs in blocks: a matrix, or a kernel that mixes channels.

    A stack of layers, an attention's kernel or a depthwise one stay masked.
    """
    return len(shape) == 2 or (len(shape) == 4 and shape[2] > 1)

  @property
  def shape(self):
    return self.dims

  @property
  def dtype(self):
    return jnp.dtype(self.of)

  @property
  def block(self) -> tuple[int, int]:
    """The shape of a block."""
    return self.blocks.shape[1:]

  @property
  def matrix(self) -> tuple[int, int]:
    """The shape of the matrix that the blocks tile."""
    return math.prod(self.dims[:-1]), self.dims[-1]

  @property
  def tiles(self) -> tuple[int, int]:
    """Rows and columns of blocks."""
    return tuple(-(-n // b) for n, b in zip(self.matrix, self.block, strict=True))

  @property
  def density(self) -> float:
    """The fraction of the blocks that is stored."""
    return self.blocks.shape[0] / math.prod(self.tiles)

  @property
  def starts(self) -> list[int]:
    """Where each column's run of blocks starts, and where the last one ends."""
    return [0, *itertools.accumulate(self.counts)]

  def columns(self) -> np.ndarray:
    """Returns the column of blocks that each block is in: int32, (count,)."""
    return np.repeat(np.arange(len(self.counts), dtype=np.int32), self.counts)

  def dense(self) -> Array:
    (rows, columns), (height, width) = self.tiles, self.block
    tiles = jnp.zeros((rows, columns, height, width), self.blocks.dtype)
    tiles = tiles.at[self.rows, self.columns()].set(self.blocks)
    matrix = tiles.swapaxes(1, 2).reshape(rows * height, columns * width)
    values = matrix[:self.matrix[0], :self.matrix[1]].reshape(self.dims)
    if self.scale is not None:
      # As in `Quantized`: the same bits as before freezing.
      values = values.astype(jnp.float32) * self.scale
    return values.astype(self.dtype)

  def freeze(self) -> BlockSparse:
    return self

  def masked(self, mask: Array) -> BlockSparse:
    tiles = _tiled(mask.reshape(self.matrix), self.block)
    kept = tiles[self.rows, self.columns()]
    return dataclasses.replace(self, blocks=jnp.where(kept, self.blocks, 0))

  def payload(self) -> dict[str, Payload]:
    out = super().payload()
    row_bits = (self.tiles[0] - 1).bit_length() + 1  # and a sign, which is never set
    return out | {"blocks": Payload(self.blocks, self.bits),
                  "rows": Payload(self.rows, row_bits, structure=True)}


def _tiled(matrix: Any, block: tuple[int, int]) -> Any:
  """Returns (rows, columns, height, width) of blocks, filled up with zeros."""
  module = jnp if isinstance(matrix, jax.Array) else np
  pads = [(0, -n % b) for n, b in zip(matrix.shape, block, strict=True)]
  padded = module.pad(matrix, pads)
  (height, width), (rows, columns) = block, padded.shape
  return padded.reshape(rows // height, height, columns // width, width).swapaxes(1, 2)

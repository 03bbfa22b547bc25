"""`BlockSparse`: a matrix of which only some blocks are stored."""

from __future__ import annotations

import itertools
import math
from typing import NoReturn

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from compress_jax.leaves import base, checking
from compress_jax.leaves.base import Array, Payload
from compress_jax.leaves.input_grids import Dynamic, StaticGrid, WithInputGrid
from compress_jax.leaves.tiles import tiled

# Pixels of a window that may have fewer channels under it than that: a first layer's of images.
_LONGEST_WINDOW = 16


@base.node
class BlockSparse(WithInputGrid):
  """Stands for the dense matrix that its blocks tile; a kernel is one of (all else, outputs).

  Blocks lie column by column, so that each column of a result sums one run of
  them, rows rising. How many a column has is part of the structure, like a shape:
  a compiled program fits it. Where a block does not divide the matrix, the blocks
  at its edges are filled up with zeros.

  Attributes:
    blocks: (count, height, width), float (trains, but for elements that are 0: they are pruned)
      or int8.
    rows: int32, (count,), the row of blocks that each is in.
    scale: float32, (outputs,) or (1,), what an integer stands for; None for floats.
    input: how `lift` quantizes what an integer weight is applied to, or None.
    dims: shape of the array it stands for.
    counts: how many blocks each column of blocks has.
    row_counts: how many each row of blocks has; empty if not known (a shard).
    bits: bits that an element needs.
    dense_dtype: name of the dtype of the array it stands for.

  Example:
    >>> import jax.numpy as jnp
    >>> w = BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
    >>> w.blocks.shape, w.rows.tolist(), w.counts
    ((2, 2, 2), [0, 1], (1, 1))
  """

  blocks: Array
  rows: Array
  scale: Array | None
  input: StaticGrid | Dynamic | None
  dims: tuple[int, ...] = base.static()
  counts: tuple[int, ...] = base.static()
  row_counts: tuple[int, ...] = base.static()
  bits: int = base.static(default=32)
  dense_dtype: str = base.static(default="float32")

  trains = ("blocks",)
  exact = ("scale",)
  former_statics = (("of", "dense_dtype"),)

  @classmethod
  def from_dense(cls, w: Array, block: tuple[int, int] = (64, 64), *, scale: Array | None = None,
                 input: StaticGrid | Dynamic | None = None, bits: int | None = None,
                 dense_dtype: str | None = None) -> BlockSparse:
    """Stores the blocks of an array that hold anything but zeros.

    Args:
      w: concrete array of at least two dimensions, float or int8.
      block: rows and columns; rows are all axes but the last, taken together.
      scale: as in the attributes, for integers.
      input: as in the attributes.
      bits: as in the attributes; by default the dtype's.
      dense_dtype: as in the attributes; by default `w`'s, or float32 for integers.

    Returns:
      The leaf; `dense()` gives `w` (times `scale`) again.

    Raises:
      ValueError: w is traced or has fewer than two dimensions, or a block is empty.
    """
    if isinstance(w, Tracer) or w.ndim < 2:
      raise ValueError("w: must be a concrete array of two or more dimensions; its zeros decide "
                       "what is stored")
    checking.block("block", block)
    tiles = tiled(np.asarray(w), block)
    kept = (tiles != 0).any((2, 3))
    columns, rows = np.nonzero(kept.T)  # column by column, as they are stored
    if dense_dtype is None:
      integers = jnp.issubdtype(w.dtype, jnp.integer)
      dense_dtype = "float32" if integers else jnp.dtype(w.dtype).name
    return cls(jnp.asarray(tiles[rows, columns]), jnp.asarray(rows, jnp.int32), scale, input,
               dims=tuple(w.shape), counts=tuple(kept.sum(0).tolist()),
               row_counts=tuple(kept.sum(1).tolist()),
               bits=base.bits_of(w.dtype) if bits is None else bits, dense_dtype=dense_dtype)

  @staticmethod
  def fits(shape: tuple[int, ...]) -> bool:
    """Returns whether a weight runs in blocks: a matrix, or a kernel that mixes channels.

    A stack of layers, an attention's kernel or a depthwise one stay masked. Of four dimensions
    only sizes tell a kernel from a stack of attention's, (layers, features, heads, ...).

    Args:
      shape: of the weight.

    Returns:
      True or False.
    """
    if len(shape) != 4:
      return len(shape) == 2
    return shape[2] > 1 and max(shape[:2]) <= max(shape[2], _LONGEST_WINDOW)

  @property
  def shape(self):
    return self.dims

  @property
  def dtype(self):
    return jnp.dtype(self.dense_dtype)

  @property
  def block(self) -> tuple[int, int]:
    """The shape of a block."""
    _, height, width = self.blocks.shape
    return height, width

  @property
  def matrix(self) -> tuple[int, int]:
    """The shape of the matrix that the blocks tile."""
    return math.prod(self.dims[:-1]), self.dims[-1]

  @property
  def tiles(self) -> tuple[int, int]:
    """Rows and columns of blocks."""
    (rows, columns), (height, width) = self.matrix, self.block
    return -(-rows // height), -(-columns // width)

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
    # Only what is kept has a gradient: a finer mask may have pruned within a block.
    kept = jnp.where(self.blocks != 0, self.blocks, lax.stop_gradient(self.blocks))
    tiles = tiles.at[self.rows, self.columns()].set(kept)
    matrix = tiles.swapaxes(1, 2).reshape(rows * height, columns * width)
    values = matrix[:self.matrix[0], :self.matrix[1]].reshape(self.dims)
    if self.scale is not None:
      # As in `Quantized`: the same bits as before freezing.
      values = values.astype(jnp.float32) * self.scale
    return values.astype(self.dtype)

  def freeze(self) -> BlockSparse:
    return self

  def weight_mask(self) -> Array:
    return self.dense() != 0

  def weight_bits(self) -> int:
    return self.bits

  def step_size(self) -> Array | None:
    return self.scale

  def block_shape(self) -> tuple[int, int]:
    return self.block

  def masked(self, mask: Array) -> BlockSparse:
    kept = tiled(mask, self.block)[self.rows, self.columns()]
    return self.replace(blocks=jnp.where(kept, self.blocks, 0))

  def unrounded(self) -> Array:
    return self.dense()

  @property
  def takes_input_grid(self) -> bool:
    return self.scale is not None

  def with_input_grid(self, grid: StaticGrid | Dynamic | None) -> BlockSparse:
    if grid is not None and grid.may_exceed_8_bits:
      self._cannot("have an input of more than 8 bits", "quantize inputs before freezing")
    return super().with_input_grid(grid)

  def flipped(self) -> BlockSparse:
    """Returns the leaf of the transposed matrix; `scale` is left as it is."""
    # Row by row: the columns of the transposed matrix.
    order = jnp.argsort(self.rows, stable=True)
    return self.replace(
        blocks=self.blocks[order].swapaxes(1, 2), rows=jnp.asarray(self.columns())[order],
        dims=self.matrix[::-1], counts=self.row_counts, row_counts=self.counts)

  def transposed(self, order: tuple[int, ...]) -> BlockSparse:
    """Returns the transposed leaf, of floats: what scales outputs cannot scale inputs.

    Args:
      order: (1, 0), or (0, 1) for the leaf as it is.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf is no matrix, has a grid for its input, or is a shard.
    """
    if len(self.shape) != 2 or self.input is not None or not self.row_counts:
      self._cannot("be transposed", "only a matrix of blocks without a grid for its input can be")
    if tuple(order) != (1, 0):
      return self
    if self.scale is None:
      return self.flipped()
    # Every stored block is multiplied by the scales of its columns.
    width = self.block[1]
    scale = jnp.broadcast_to(self.scale, (self.matrix[1],))
    scale = jnp.pad(scale, (0, self.tiles[1] * width - scale.size)).reshape(-1, 1, width)
    blocks = self.blocks.astype(jnp.float32) * scale[self.columns()]
    return self.replace(blocks=blocks, scale=None, bits=32).flipped()

  def stacked(self, length: int) -> NoReturn:
    self._cannot("be sliced by a loop", "blocks are not stored layer by layer: leave stacks of "
                 "layers out of cj.prune.block by its where=, or freeze each layer by itself")

  def payload(self) -> dict[str, Payload]:
    row_bits = (self.tiles[0] - 1).bit_length() + 1  # and a sign, which is never set
    return super().payload() | {"blocks": Payload(self.blocks, self.bits),
                                "rows": Payload(self.rows, row_bits, structure=True)}

  def validate(self) -> None:
    super().validate()
    checking.float_format("BlockSparse.dense_dtype", self.dense_dtype)
    if self.blocks.ndim != 3 or min(self.block) < 1 or len(self.dims) < 2:
      raise ValueError(f"BlockSparse: blocks of shape {self.blocks.shape} for an array of "
                       f"{self.dims}; must be (count, height, width), for two or more dimensions")
    checking.input_grid(self)
    self._check_counts()
    self._check_rows()
    if self.blocks.dtype != jnp.int8:
      checking.float_format("BlockSparse.blocks", self.blocks.dtype)
    if self.scale is not None and self.scale.shape not in ((1,), (self.matrix[1],)):
      raise ValueError(f"BlockSparse.scale: shape {self.scale.shape}; must be (1,) or "
                       f"({self.matrix[1]},)")

  def _check_counts(self) -> None:
    """Refuses counts of blocks that are not those of the stored ones."""
    stored, (rows, columns) = self.blocks.shape[0], self.tiles
    for name, counts, places in (("counts", self.counts, columns),
                                 ("row_counts", self.row_counts, rows)):
      if name == "row_counts" and not counts:
        continue  # a shard does not know them
      if len(counts) != places or sum(counts) != stored or min(counts, default=0) < 0:
        raise ValueError(f"BlockSparse.{name}: {len(counts)} numbers from "
                         f"{min(counts, default=0)} that sum to {sum(counts)}; must be {places} "
                         f"numbers from 0 that sum to {stored}, the stored blocks")
    if tuple(self.rows.shape) != (stored,):
      raise ValueError(f"BlockSparse.rows: shape {self.rows.shape}; must be ({stored},), one for "
                       "every stored block")

  def _check_rows(self) -> None:
    """Refuses rows that do not rise within each column, or are counted otherwise."""
    rows = checking.concrete(self.rows)
    if rows is None:
      return
    checking.within(self, "rows", 0, self.tiles[0] - 1)
    # Where two neighbors are in one column, the second must be further down.
    step = np.diff(rows)[np.diff(self.columns()) == 0]
    if (step <= 0).any():
      what = "repeated" if (step == 0).any() else "unsorted"
      raise ValueError(f"BlockSparse.rows: {what} within a column of blocks; must rise")
    # Only where they are known: else a few bytes of a file could claim any number of rows.
    if self.row_counts and (
        np.bincount(rows, minlength=self.tiles[0]).tolist() != list(self.row_counts)):
      raise ValueError("BlockSparse.row_counts: must be how often each row is in `rows`")

"""A matrix as tiles: what blocks are counted, scored, pruned and stored by."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def tiled(x: Any, block: tuple[int, int]) -> Any:
  """Cuts an array into blocks, filled up with zeros at the edges.

  Args:
    x: numpy or JAX array of one or more dimensions; as a matrix its rows are all axes but
      the last.
    block: rows and columns of a block.

  Returns:
    An array of the same kind, (rows of blocks, columns of blocks, height, width).

  Example:
    >>> tiled(np.arange(6).reshape(2, 3), (2, 2))[0, 1].tolist()
    [[2, 0], [5, 0]]
  """
  module = jnp if isinstance(x, jax.Array) else np
  matrix = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
  (height, width), (rows, columns) = block, matrix.shape
  padded = module.pad(matrix, [(0, -rows % height), (0, -columns % width)])
  rows, columns = padded.shape
  return padded.reshape(rows // height, height, columns // width, width).swapaxes(1, 2)


def spread(tiles: jax.Array, shape: tuple[int, ...], block: tuple[int, int]) -> jax.Array:
  """Gives every element the value of its block.

  Args:
    tiles: (rows of blocks, columns of blocks).
    shape: of the array whose blocks they are.
    block: rows and columns of a block.

  Returns:
    An array of that shape.

  Example:
    >>> spread(jnp.array([[1, 2]]), (2, 3), (2, 2)).tolist()
    [[1, 1, 2], [1, 1, 2]]
  """
  full = jnp.repeat(jnp.repeat(tiles, block[0], 0), block[1], 1)
  # What lies outside the array only filled up its blocks at the edges.
  return full[:math.prod(shape[:-1]), :shape[-1]].reshape(shape)

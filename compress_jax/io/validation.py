"""Whether a tree that was read is one that could have been written."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax.io.structure import describe
from compress_jax.leaves import BlockSparse, Leaf, Node

_int = lambda x: type(x) is int
_ints = lambda x: isinstance(x, tuple | list) and all(map(_int, x))
# What a static field may hold, by its annotation; others are their packages' own.
_STATIC: dict[str, Callable[[Any], bool]] = {
    "int": _int,
    "bool": lambda x: isinstance(x, bool),
    "str": lambda x: isinstance(x, str),
    "tuple[int, ...]": _ints,
    "tuple[int, int] | None": lambda x: x is None or (_ints(x) and len(x) == 2),
}
_DTYPE = re.compile(r"bool|u?int\d+|b?float\w+|complex\d+")


def array_bytes(entry: dict[str, Any]) -> int:
  """Returns the bytes of an array that a manifest describes.

  Args:
    entry: {"array", "shape", "dtype"}.

  Returns:
    Bytes, elements of less than a byte taking one.

  Raises:
    ValueError: no shape, or no dtype of numbers.

  Example:
    >>> array_bytes({"array": "w", "shape": [3, 2], "dtype": "int16"})
    12
  """
  name, shape, dtype = entry["array"], entry["shape"], entry["dtype"]
  if not isinstance(name, str) or not _ints(shape) or len(shape) > 32 or min(shape, default=0) < 0:
    raise ValueError(f"array {name!r}: shape {str(shape)[:60]}; may be whole numbers from 0")
  if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
    raise ValueError(f"array {name!r}: dtype {str(dtype)[:60]!r}; may be one of numbers")
  return math.prod(shape) * jnp.dtype(dtype).itemsize


def check(tree: Any, structure: Any) -> None:
  """Refuses a tree that `artifact.save` could not have written.

  Args:
    tree: as rebuilt from a file.
    structure: what the file says of it.

  Raises:
    ValueError: a field of a leaf holds what it may not, or the structure is another.

  Example:
    >>> import jax.numpy as jnp
    >>> check({"w": jnp.ones(2)}, {"dict": {"w": {"array": "w", "shape": [3], "dtype": "int8"}}})
    Traceback (most recent call last):
    ValueError: the structure is not the one of the tree that it gives
  """
  for node in _nodes(tree):
    _check_node(node)
  if json.loads(json.dumps(describe(tree)[0])) != structure:
    raise ValueError("the structure is not the one of the tree that it gives")


def _nodes(x: Any) -> list[Node]:
  """Returns every node of a tree, also those inside nodes."""
  if isinstance(x, Node):
    inner = x.fields().values()
  else:
    inner = x.values() if isinstance(x, dict) else x if isinstance(x, list | tuple) else ()
  return [x] * isinstance(x, Node) + [node for child in inner for node in _nodes(child)]


def _check_node(node: Node) -> None:
  kind = type(node).__name__
  for field in dataclasses.fields(node):
    value = getattr(node, field.name)
    if field.metadata.get("static"):
      if not _STATIC.get(str(field.type), lambda x: True)(value):
        raise ValueError(f"{kind}.{field.name}: {str(value)[:60]!r}; may be {field.type}")
    elif not (value is None or isinstance(value, Node) or hasattr(value, "dtype")):
      raise ValueError(f"{kind}.{field.name}: a {type(value).__name__}; may be an array or leaf")
  if isinstance(node, Leaf):
    jnp.dtype(node.dtype)
    if not all(n >= 0 for n in node.shape):
      raise ValueError(f"{kind}: shape {node.shape}")
  if isinstance(node, BlockSparse):
    _check_blocks(node)
  node.payload()


def _check_blocks(x: BlockSparse) -> None:
  count = x.blocks.shape[0]
  tiles = x.tiles
  sums = sum(x.counts), sum(x.row_counts), x.rows.shape
  if (len(x.row_counts), len(x.counts)) != tiles or sums != (count, count, (count,)):
    raise ValueError(f"BlockSparse: {sums[0]} blocks in {len(x.counts)} columns, {sums[1]} in "
                     f"{len(x.row_counts)} rows; there are {count} in {tiles}")
  if min(x.counts + x.row_counts, default=0) < 0:
    raise ValueError("BlockSparse: a negative number of blocks")
  rows = np.asarray(x.rows)
  if count and not 0 <= rows.min() <= rows.max() < tiles[0]:
    raise ValueError(f"BlockSparse: row {rows.max()} of {tiles[0]} rows of blocks")

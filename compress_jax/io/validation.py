"""Whether a tree that was read is one that could have been written."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax.io.structure import describe
from compress_jax.leaves import Node

_DTYPE = re.compile(r"bool|u?int\d+|b?float\w+|complex\d+")
_MOST_AXES = 32


def array_bytes(entry: dict[str, Any]) -> int:
  """Returns the bytes of an array that a structure describes.

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
  if not isinstance(name, str) or not _is_shape(shape):
    raise ValueError(f"array {name!r}: shape {str(shape)[:60]}; must be whole numbers from 0")
  if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
    raise ValueError(f"array {name!r}: dtype {str(dtype)[:60]!r}; must be one of numbers")
  return math.prod(shape) * jnp.dtype(dtype).itemsize


def _is_shape(shape: Any) -> bool:
  if not isinstance(shape, tuple | list) or len(shape) > _MOST_AXES:
    return False
  return all(type(n) is int and n >= 0 for n in shape)  # True is an int, but no size


def check(tree: Any, structure: Any) -> None:
  """Refuses a tree that `artifact.save` could not have written.

  Args:
    tree: as rebuilt from a file.
    structure: what the file says of it, in present names.

  Raises:
    ValueError: a field of a leaf holds what it must not, or the structure is another.

  Example:
    >>> import jax.numpy as jnp
    >>> check({"w": jnp.ones(2)}, {"dict": {"w": {"array": "w", "shape": [3], "dtype": "int8"}}})
    Traceback (most recent call last):
    ValueError: the structure is not the one of the tree that it gives
  """
  leaves(tree)
  found = json.loads(json.dumps(describe(tree)[0]))
  if found != structure:
    raise ValueError("the structure is not the one of the tree that it gives")


def leaves(tree: Any) -> None:
  """Refuses a tree with a leaf whose invariants do not hold; see `Leaf.validate`.

  Args:
    tree: nested dicts, lists, tuples, leaves, None and arrays.

  Raises:
    ValueError: names the leaf's path and field.
  """
  for path, node in _outermost(tree, ""):
    # Of a leaf that `partition` took apart one half may hold no array at all.
    if not jax.tree.leaves(node):
      continue
    try:
      node.validate()
      node.payload()
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from None
    except (AttributeError, TypeError, IndexError) as error:
      raise ValueError(f"{path}: a {type(node).__name__} that is not whole ({error}); `merge` "
                       "puts together what `partition` took apart") from None


def _outermost(x: Any, path: str) -> Iterator[tuple[str, Node]]:
  """Yields the nodes of a tree that lie in no other node, with their paths."""
  if isinstance(x, Node):
    yield path, x
    return
  items: Any = ()
  if isinstance(x, Mapping):
    items = x.items()
  elif isinstance(x, list | tuple):
    items = enumerate(x)
  for key, value in items:
    yield from _outermost(value, f"{path}/{key}" if path else str(key))

"""Whether a tree that was read is one that could have been written."""

from __future__ import annotations

import json
import math
from typing import Any

import jax.numpy as jnp

from compress_jax.io import containers, dtypes
from compress_jax.io.structure import describe, without_types
from compress_jax.leaves import Node

_MOST_AXES = 32


def array_bytes(entry: dict[str, Any]) -> int:
  """Returns the bytes of an array that a structure describes.

  Args:
    entry: {"array", "shape", "dtype"}.

  Returns:
    Bytes, elements of less than a byte taking one.

  Raises:
    ValueError: no shape, or no dtype that files keep.

  Example:
    >>> array_bytes({"array": "w", "shape": [3, 2], "dtype": "int16"})
    12
  """
  name, shape, dtype = entry["array"], entry["shape"], entry["dtype"]
  if not isinstance(name, str) or not _is_shape(shape):
    raise ValueError(f"array {name!r}: shape {str(shape)[:60]}; must be whole numbers from 0")
  if not isinstance(dtype, str):
    raise ValueError(f"array {name!r}: dtype {str(dtype)[:60]!r}; must be a name")
  dtypes.check(f"array {name!r}", dtype)
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
  if found != without_types(structure):
    raise ValueError("the structure is not the one of the tree that it gives")


def leaves(tree: Any, *, halves: bool = False) -> None:
  """Refuses a tree with a leaf whose invariants do not hold; see `Leaf.validate`.

  Args:
    tree: any pytree.
    halves: whether halves of leaves pass, as `partition` makes them and an optimizer's
      state holds them: a checkpoint may keep them, a model cannot.

  Raises:
    ValueError: names the leaf's path and field.
  """
  for path, x in containers.named(tree):
    if not isinstance(x, Node) or (halves and x.is_half()):
      continue
    if x.is_half():
      raise ValueError(f"{path}: {x} is half of a leaf; `merge` puts together what `partition` "
                       "took apart")
    try:
      x.validate()
      x.payload()
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from None
    except (AttributeError, TypeError, IndexError) as error:
      raise ValueError(f"{path}: a {type(x).__name__} that is not sound ({error})") from None

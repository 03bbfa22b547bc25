"""The structure of a parameter tree as JSON, apart from its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.leaves import Node

Json = Any


def node_types() -> dict[str, type[Node]]:
  """Returns every kind of node by its name, those of other packages included."""
  found, todo = {}, list(Node.__subclasses__())
  while todo:
    cls = todo.pop()
    found[cls.__name__] = cls
    todo.extend(cls.__subclasses__())
  return found


def describe(tree: Any) -> tuple[Json, dict[str, Any]]:
  """Separates a tree into its structure and its arrays.

  Args:
    tree: nested dicts, lists, tuples, nodes, None and arrays.

  Returns:
    The structure, JSON-able, with every node's type and static fields, and
    {name: array} with "/"-joined names.

  Raises:
    ValueError: something else is in the tree.

  Example:
    >>> import numpy as np
    >>> describe({"w": np.zeros(2, np.float32)})[0]
    {'dict': {'w': {'array': 'w', 'shape': [2], 'dtype': 'float32'}}}
  """
  arrays: dict[str, Any] = {}

  def visit(x: Any, path: str) -> Json:
    inside = lambda items: {k: visit(v, f"{path}/{k}" if path else k) for k, v in items}
    if x is None:
      return {"none": True}
    if isinstance(x, Node):
      return {"leaf": type(x).__name__, "static": x.statics(), "fields": inside(x.fields().items())}
    if isinstance(x, Mapping):
      for key in x:
        if not isinstance(key, str) or "/" in key:
          raise ValueError(f"{path}: key {key!r}: may be a string without '/'")
      return {"dict": inside(sorted(x.items()))}
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
      return {type(x).__name__: list(inside((str(i), v) for i, v in enumerate(x)).values())}
    if isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
      arrays[path] = x = np.asarray(x)
      return {"array": path, "shape": list(x.shape), "dtype": x.dtype.name}
    raise ValueError(f"{path}: a {type(x).__name__} cannot be stored; it may be a dict, list, "
                     "tuple, leaf, array or None")

  return visit(tree, ""), arrays


def rebuild(structure: Json, array: Callable[[Json], Any]) -> Any:
  """Puts a tree together again.

  Args:
    structure: from `describe`.
    array: gives the array of a description {"array", "shape", "dtype"}.

  Returns:
    The tree.

  Raises:
    ValueError: the structure is not one that `describe` writes.

  Example:
    >>> import numpy as np
    >>> structure, arrays = describe({"w": (np.zeros(2), None)})
    >>> rebuild(structure, lambda entry: arrays[entry["array"]])
    {'w': (array([0., 0.]), None)}
  """
  if not isinstance(structure, dict) or not structure:
    raise ValueError(f"structure: {str(structure)[:60]!r} is no description of a tree")
  if "array" in structure:
    return array(structure)
  if "leaf" in structure:
    return _rebuild_node(structure, array)
  kind, inner = next(iter(structure.items()))
  if kind == "none":
    return None
  if kind == "dict":
    return {k: rebuild(v, array) for k, v in inner.items()}
  if kind in ("list", "tuple"):
    items = [rebuild(v, array) for v in inner]
    return items if kind == "list" else tuple(items)
  raise ValueError(f"structure: kind {kind!r} may be array, leaf, dict, list, tuple or none")


def _rebuild_node(structure: Json, array: Callable[[Json], Any]) -> Node:
  types = node_types()
  if structure["leaf"] not in types:
    raise ValueError(f"leaf type {structure['leaf']!r}: may be one of {', '.join(sorted(types))}")
  fields = {k: rebuild(v, array) for k, v in structure["fields"].items()}
  try:
    return types[structure["leaf"]](**fields, **structure["static"])
  except TypeError as error:
    raise ValueError(f"leaf type {structure['leaf']!r}: {error}") from None


def paths(structure: Json) -> list[Json]:
  """Returns the descriptions of all arrays of a structure, in order."""
  found: list[Json] = []
  rebuild(structure, lambda entry: found.append(entry) or np.zeros(()))
  return found


def on_device(x: np.ndarray) -> Any:
  """Returns a JAX array, or numpy's own where JAX would narrow it (64 bits)."""
  made = jnp.asarray(x)
  return made if made.dtype == x.dtype else x

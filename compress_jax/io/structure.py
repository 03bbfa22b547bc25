"""The structure of a parameter tree as JSON, apart from its arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.leaves import Node

Json = Any
_KINDS = "array, leaf, dict, list, tuple or none"


def node_types() -> dict[str, list[type[Node]]]:
  """Returns every kind of node by its name, those of other packages and earlier names included.

  Returns:
    {name: classes}. More than one class has a name where different modules use it; of a
    class that is defined again, in a notebook or a reloaded module, the last one counts.
  """
  todo, made = list(Node.__subclasses__()), []
  while todo:
    cls = todo.pop()
    todo.extend(cls.__subclasses__())
    if "order" in vars(cls):  # made by `node`; others are only extended
      made.append(cls)
  by_place: dict[tuple[str, str], type[Node]] = {}
  for cls in sorted(made, key=lambda cls: cls.order):
    for name in (cls.__name__, *cls.former_names):
      by_place[name, f"{cls.__module__}.{cls.__qualname__}"] = cls
  found: dict[str, list[type[Node]]] = {}
  for (name, _), cls in by_place.items():
    found.setdefault(name, []).append(cls)
  return found


def node_type(name: str) -> type[Node]:
  """Returns the class that a file means by a name.

  Args:
    name: as in a structure.

  Returns:
    The class.

  Raises:
    ValueError: there is none, or more than one.
  """
  types = node_types()
  if name not in types:
    raise ValueError(f"leaf type {name!r}: must be one of {', '.join(sorted(types))}; import the "
                     "module that defines it first")
  if len(types[name]) > 1:
    places = " and ".join(f"{cls.__module__}.{cls.__qualname__}" for cls in types[name])
    raise ValueError(f"leaf type {name!r}: {places} have one name; a file could not say which it "
                     "holds")
  return types[name][0]


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
  return _describe(tree, "", arrays), arrays


def _describe(x: Any, path: str, arrays: dict[str, Any]) -> Json:
  """Returns the structure of `x`, and adds its arrays to those found so far."""
  if x is None:
    return {"none": True}
  if isinstance(x, Node):
    fields = _describe_items(x.fields(), path, arrays)
    return {"leaf": type(x).__name__, "static": x.statics(), "fields": fields}
  if isinstance(x, Mapping):
    for key in x:
      if not isinstance(key, str) or "/" in key:
        raise ValueError(f"{path}: key {key!r}: must be a string without '/'")
    return {"dict": _describe_items(dict(sorted(x.items())), path, arrays)}
  if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
    items = _describe_items({str(i): item for i, item in enumerate(x)}, path, arrays)
    return {type(x).__name__: list(items.values())}
  if isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
    arrays[path] = x = np.asarray(x)
    return {"array": path, "shape": list(x.shape), "dtype": x.dtype.name}
  raise ValueError(f"{path}: a {type(x).__name__} cannot be stored; must be a dict, list, "
                   "tuple, leaf, array or None")


def _describe_items(items: Mapping[str, Any], path: str, arrays: dict[str, Any]) -> Json:
  return {key: _describe(item, f"{path}/{key}" if path else key, arrays)
          for key, item in items.items()}


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
  raise ValueError(f"structure: kind {kind!r}: must be {_KINDS}")


def _rebuild_node(structure: Json, array: Callable[[Json], Any]) -> Node:
  cls = node_type(structure["leaf"])
  fields = {k: rebuild(v, array) for k, v in structure["fields"].items()}
  statics = {k: _as_tuple(v) for k, v in structure["static"].items()}
  try:
    return cls(**fields, **statics)
  except TypeError as error:
    raise ValueError(f"leaf type {structure['leaf']!r}: {error}") from None


def _as_tuple(value: Json) -> Any:
  """Returns lists as the tuples that they were before JSON: static fields must be hashable."""
  return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def in_present_names(structure: Json) -> Json:
  """Returns a structure that an earlier version wrote as this one would write it.

  Args:
    structure: from a file.

  Returns:
    The structure, with classes and static fields called as they are today.

  Raises:
    ValueError: a leaf type is not known here, or not to be told from another.
  """
  if isinstance(structure, list):
    return [in_present_names(x) for x in structure]
  if not isinstance(structure, dict):
    return structure
  if not isinstance(structure.get("leaf"), str) or not isinstance(structure.get("static"), dict):
    return {key: in_present_names(value) for key, value in structure.items()}
  cls = node_type(structure["leaf"])
  now = dict(cls.former_statics)
  return {**structure, "leaf": cls.__name__,
          "static": {now.get(key, key): value for key, value in structure["static"].items()},
          "fields": in_present_names(structure.get("fields"))}


def array_entries(structure: Json) -> list[Json]:
  """Returns the descriptions of all arrays of a structure.

  Args:
    structure: from `describe`.

  Returns:
    [{"array", "shape", "dtype"}], in order.

  Raises:
    ValueError: the structure is not one that `describe` writes.
  """
  found: list[Json] = []

  def note(entry: Json) -> np.ndarray:
    found.append(entry)
    return np.zeros(())

  rebuild(structure, note)
  return found


def on_device(x: np.ndarray) -> Any:
  """Returns a JAX array, or numpy's own where JAX would narrow it (64 bits).

  Args:
    x: array.

  Returns:
    The same numbers in the same dtype.
  """
  made = jnp.asarray(x)
  return made if made.dtype == x.dtype else x

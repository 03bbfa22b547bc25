"""The structure of a parameter tree as JSON, apart from its arrays."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.io import containers, dtypes, processes
from compress_jax.leaves import Node, node
from compress_jax.leaves.base import static

Json = Any
_KINDS = "array, leaf, dict, items, list, tuple or none"
# Containers that come back as they are; of others, the type is in the hands of `like=`.
_STANDARD = {containers.type_name(OrderedDict): OrderedDict}


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


@node
class Absent(Node):
  """Takes the place of what a file does not keep: a function, a string, any object.

  It holds no array, so that `jax.tree` passes over it, as over None. Loading with
  `like=` puts the object of `like` in its place.

  Attributes:
    kind: its type's name.

  Example:
    >>> import jax
    >>> jax.tree.leaves({"activation": Absent("builtins.function"), "w": 1})
    [1]
  """

  kind: str = static()


def describe(tree: Any) -> tuple[Json, dict[str, Any]]:
  """Separates a tree into its structure and its arrays.

  A dict is described in its own order of keys. Any other container that JAX knows is
  described as a dict, list or tuple with its type's name; keys that are no strings
  are kept as pairs with what is under them.

  Args:
    tree: any pytree of arrays, numbers, PRNG keys, nodes and None. Inside containers of
      other classes than dicts, lists and tuples (models' modules, dataclasses) there may
      be other objects, which are described as absent.

  Returns:
    The structure, JSON-able, with every node's type and static fields, and
    {name: array} with "/"-joined names (see `containers.named`).

  Raises:
    ValueError: another object is in the tree, an array that JAX would not take back, or a key
      that JSON cannot hold.

  Example:
    >>> import numpy as np
    >>> describe({"w": np.zeros(2, np.float32)})[0]
    {'dict': {'w': {'array': 'w', 'shape': [2], 'dtype': 'float32'}}}
  """
  arrays: dict[str, Any] = {}
  return _describe(tree, iter(containers.named(tree)), arrays, False), arrays


def _describe(x: Any, coming: Iterator[tuple[str, Any]], arrays: dict[str, Any],
              inside_class: bool, path: str = "") -> Json:
  """Returns the structure of `x`, and adds its arrays to those found so far.

  Args:
    x: a tree.
    coming: what lies in its containers, with names, in the order in which they are met.
    arrays: {name: array}, added to.
    inside_class: whether `x` lies in a container that may hold objects.
    path: of `x`, for errors.
  """
  if x is None:
    return {"none": True}
  level = None if isinstance(x, Node) else containers.level(x)
  if level is None:
    return _describe_one(*next(coming), arrays, inside_class)
  inside_class = inside_class or containers.is_own_class(x)
  parts = [_describe(part, coming, arrays, inside_class, containers.joined(path, name))
           for name, part in zip(level.names, level.parts, strict=True)]
  return _describe_container(level, parts, path)


def _describe_one(name: str, x: Any, arrays: dict[str, Any], inside_class: bool) -> Json:
  """Returns the structure of a node, an array or an object."""
  if inside_class and not isinstance(x, Node) and containers.plain(x) is None:
    x = Absent(containers.type_name(type(x)))
  if isinstance(x, Node):
    return _describe_node(name, x, arrays)
  return _describe_array(name, x, arrays)


def _describe_array(name: str, x: Any, arrays: dict[str, Any]) -> Json:
  array = containers.plain(x)
  if array is None:
    raise ValueError(f"{name}: a {type(x).__name__} cannot be stored; must be a dict, list, "
                     "tuple, leaf, array or None, or lie in a container of a model's class")
  dtypes.check(name, array.dtype.name)
  # What other processes hold parts of cannot be seen whole here.
  arrays[name] = array = array if processes.scattered(array) else np.asarray(array)
  found = {"array": name, "shape": list(array.shape), "dtype": array.dtype.name}
  if containers.is_key(x):
    found["prng"] = jax.random.key_impl(x)
    if not isinstance(found["prng"], str):
      raise ValueError(f"{name}: a PRNG key of an implementation that JAX has no name for; must "
                       "be stored as jax.random.key_data(key)")
  return found


def _describe_node(name: str, x: Node, arrays: dict[str, Any]) -> Json:
  fields = {}
  for field, value in x.fields().items():
    inner = containers.joined(name, field)
    if value is None:
      fields[field] = {"none": True}
    elif isinstance(value, Node):
      fields[field] = _describe_node(inner, value, arrays)
    else:
      fields[field] = _describe_array(inner, value, arrays)
  return {"leaf": type(x).__name__, "static": x.statics(), "fields": fields}


def _describe_container(level: containers.Level, parts: list[Json], path: str) -> Json:
  x = level.container
  known = {} if type(x) in (dict, list, tuple) else {"type": containers.type_name(type(x))}
  if type(x) is tuple:
    return {"tuple": parts}
  if type(x) is list or level.keys is None:
    return {"list": parts, **known}
  found = dict(zip(level.keys, parts, strict=True))
  order = x if type(x) is dict else level.keys  # JAX sorts a dict's keys
  pairs = [[containers.key_to_json(key, path), found[key]] for key in order]
  if all(isinstance(key, str) for key, _ in pairs):
    return {"dict": dict(pairs), **known}
  return {"items": pairs, **known}


def rebuild(structure: Json, array: Callable[[Json], Any]) -> Any:
  """Puts a tree together again.

  Args:
    structure: from `describe`.
    array: gives the array of a description {"array", "shape", "dtype"}, maybe "prng".

  Returns:
    The tree. Containers that are no dict, OrderedDict, list or tuple come back as the
    dict or list of their parts, in their order; `like.fit` makes them what they were.

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
  if "none" in structure:
    return None
  kind = next((kind for kind in ("dict", "items", "list", "tuple") if kind in structure), None)
  if kind is None:
    raise ValueError(f"structure: kind {next(iter(structure))!r}: must be {_KINDS}")
  return _rebuild_container(kind, structure, array)


def _rebuild_container(kind: str, structure: Json, array: Callable[[Json], Any]) -> Any:
  name, inner = structure.get("type", ""), structure[kind]
  if not isinstance(name, str):
    raise ValueError(f"structure: type {str(name)[:60]!r}; must be a name")
  if kind in ("list", "tuple"):
    items = [rebuild(v, array) for v in inner]
    return items if kind == "list" else tuple(items)
  pairs = inner.items() if kind == "dict" else inner
  made = _STANDARD.get(name, dict)()
  for key, value in pairs:
    made[containers.key_from_json(key)] = rebuild(value, array)
  return made


def without_types(structure: Json) -> Json:
  """Returns the structure of the tree that `rebuild` makes: other containers are plain there.

  Args:
    structure: from `describe`.

  Returns:
    The structure, without the types that do not come back.
  """
  if not isinstance(structure, dict):
    return structure
  found = dict(structure)
  if found.get("type") not in _STANDARD:
    found.pop("type", None)
  if "dict" in found:
    found["dict"] = {key: without_types(part) for key, part in found["dict"].items()}
  if "items" in found:
    found["items"] = [[key, without_types(part)] for key, part in found["items"]]
  for kind in ("list", "tuple"):
    if kind in found:
      found[kind] = [without_types(part) for part in found[kind]]
  return found


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
    The structure, with classes and static fields called as they are today; static fields that
    there were not yet have their defaults.

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
  known = {now.get(key, key): value for key, value in structure["static"].items()}
  return {**structure, "leaf": cls.__name__, "static": _static_defaults(cls) | known,
          "fields": in_present_names(structure.get("fields"))}


def _static_defaults(cls: type[Node]) -> dict[str, Any]:
  """Returns the static fields of a leaf type that have defaults, with them."""
  return {field.name: field.default for field in dataclasses.fields(cls)
          if field.metadata.get("static") and field.default is not dataclasses.MISSING}


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
    # A file that was changed may lack any of them.
    lacking = [name for name in ("array", "shape", "dtype") if name not in entry]
    if lacking:
      raise ValueError(f"an array has no {', no '.join(lacking)}")
    found.append(entry)
    return np.zeros(())

  rebuild(structure, note)
  return found


def restored(entry: Json, x: np.ndarray) -> Any:
  """Returns an array as it was in the tree.

  Args:
    entry: its description.
    x: what was stored.

  Returns:
    A typed PRNG key where it was one; else a JAX array, or numpy's own where JAX would
    narrow it (64 bits).

  Raises:
    ValueError: it is not a key of the kind that the description says, or JAX has no such arrays.
  """
  dtypes.check(entry["array"], x.dtype.name)
  if "prng" in entry:
    return jax.random.wrap_key_data(jnp.asarray(x), impl=entry["prng"])
  made = jnp.asarray(x)
  return made if made.dtype == x.dtype else x

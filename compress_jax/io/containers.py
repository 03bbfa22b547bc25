"""Containers of any kind, as `jax.tree_util` knows them: what is in one, and under which names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import FlattenedIndexKey, GetAttrKey, SequenceKey

from compress_jax import checks
from compress_jax.leaves import freeze_of, is_leaf, is_node
from compress_jax.paths import key_of, path_str

Key = Any
_SIMPLE_KEYS = (str, bool, int, float, type(None))
_POSITIONS = (SequenceKey, FlattenedIndexKey)
# Objects, texts, bytes and dates: numpy has arrays of them, models do not.
_NO_NUMBERS = "OUSMm"


@dataclasses.dataclass(frozen=True)
class Level:
  """A container without what lies deeper.

  Attributes:
    container: the object itself.
    keys: of its parts, in JAX's order; None where only their positions tell them apart.
    parts: what it holds: containers, leaves, arrays or anything else.
    bare: {position among all parts: part} of attributes in which nothing lies, left out
      of `parts`: what a module keeps for itself.
    structure: the `PyTreeDef` that makes such a container of all its parts.
  """

  container: Any
  keys: list[Key] | None
  parts: list[Any]
  bare: dict[int, Any]
  structure: Any

  @property
  def names(self) -> list[str]:
    """The parts' names as strings, each once."""
    names = [str(_simple(key)) for key in self.keys or ()]
    if self.keys is None or len(set(names)) < len(names):
      return [str(i) for i in range(len(self.parts))]
    return names

  def with_parts(self, parts: list[Any]) -> Any:
    """Returns such a container of other parts; a dict keeps its own order of keys.

    Args:
      parts: as many, in the same order.

    Returns:
      A container of the same type.
    """
    if type(self.container) is not dict:
      every = list(parts)
      for position, part in self.bare.items():  # from the first to the last
        every.insert(position, part)
      return jax.tree_util.tree_unflatten(self.structure, every)
    # JAX itself would return the keys sorted.
    found = dict(zip(self.keys or (), parts, strict=True))
    return {key: found[key] for key in self.container}


def level(x: Any) -> Level | None:
  """Takes a container apart, one level deep.

  Args:
    x: anything.

  Returns:
    What it holds; None where JAX knows no container of that type, and for None.

  Raises:
    ValueError: a dict's keys cannot be sorted, so that JAX cannot take it apart.

  Example:
    >>> level({"b": 1, "a": [2, 3]}).parts
    [[2, 3], 1]
  """
  if x is None:
    return None
  try:
    flat, structure = jax.tree_util.tree_flatten_with_path(x, is_leaf=lambda y: y is not x)
  except ValueError as error:
    if "sorting" not in str(error):
      raise
    raise ValueError("a dict has keys that cannot be compared, so that it is no pytree; must all "
                     "be strings, or all numbers") from None
  if len(flat) == 1 and not flat[0][0]:
    return None
  entries, parts, bare = [], [], {}
  for position, ((entry,), part) in enumerate(flat):
    if isinstance(entry, GetAttrKey) and _is_bare(part):
      bare[position] = part
    else:
      entries.append(entry)
      parts.append(part)
  return Level(x, _keys(x, entries), parts, bare, structure)


def _is_bare(x: Any) -> bool:
  """Returns whether something is a container in which nothing lies."""
  return x is not None and not is_node(x) and not jax.tree_util.tree_leaves(x)


def _keys(x: Any, entries: list[Any]) -> list[Key] | None:
  """Returns the keys of a container's parts, or None where they are only positions."""
  if entries and all(isinstance(entry, _POSITIONS) for entry in entries):
    return None
  keys = [key_of(entry) for entry in entries]
  if isinstance(x, dict):
    return keys
  if len({type(key) for key in keys}) > 1:
    # Loaded without `like=` they are the keys of a dict, which JAX must be able to sort.
    keys = [str(key) for key in keys]
  try:
    unique = len(set(keys)) == len(keys)
  except TypeError:
    unique = False
  return keys if unique else None


def key_to_json(key: Key, path: str) -> Any:
  """Returns a container's key as JSON.

  Args:
    key: a string, number, bool or None, or a tuple of these.
    path: of the container, for the error.

  Returns:
    The same; a tuple as a list.

  Raises:
    ValueError: it is something else.

  Example:
    >>> key_to_json(("a", 0), "")
    ['a', 0]
  """
  if isinstance(key, tuple):
    return [key_to_json(part, path) for part in key]
  simple = _simple(key)
  # Infinity and NaN are no JSON, and NaN is not found again.
  finite = not isinstance(simple, float) or np.isfinite(simple)
  if not isinstance(simple, _SIMPLE_KEYS) or not finite:
    raise ValueError(f"{path}: key {key!r}: must be a string, a number, a bool, None, or a tuple "
                     "of these")
  return simple


def _simple(key: Key) -> Key:
  """Returns a key of a class of its own (an enumeration's, numpy's) as what it extends."""
  if isinstance(key, bool):
    return key
  for simple, classes in ((str, str), (int, int | np.integer), (float, float | np.floating)):
    if isinstance(key, classes):
      # Not `str(key)`: an enumeration prints its members by name.
      return str.__str__(key) if simple is str else simple(key)
  return key


def key_from_json(key: Any) -> Key:
  """Returns a key that `key_to_json` made JSON of.

  Args:
    key: from a file.

  Returns:
    The key.

  Raises:
    ValueError: it is none.
  """
  if isinstance(key, list):
    return tuple(map(key_from_json, key))
  if not isinstance(key, _SIMPLE_KEYS):
    raise ValueError(f"structure: key {str(key)[:60]!r}; must be a string, number or list of them")
  return key


def named(tree: Any) -> list[tuple[str, Any]]:
  """Finds what lies in a tree's containers, each under a name of its own.

  Args:
    tree: any pytree.

  Returns:
    [(name, node, array or anything else)], in JAX's order. A name is the "/"-joined path;
    where that, or a name of an array in a node, is taken already, with "#2" and so on.

  Example:
    >>> named({"a/b": 1, "a": {"b": 2}})
    [('a/b', 2), ('a/b#2', 1)]
  """
  taken: set[str] = set()
  found = []
  for path, x in _walk(tree, ()):
    inner = [path_str(keys) for keys, _ in jax.tree_util.tree_flatten_with_path(x)[0]]
    name, count = "/".join(path), 1
    while not taken.isdisjoint(joined(name, field) for field in inner):
      count += 1
      name = f"{'/'.join(path)}#{count}"
    taken.update(joined(name, field) for field in inner)
    found.append((name, x))
  return found


def _walk(x: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
  """Yields what lies in a tree's containers, with the names on the way there."""
  if x is None:
    return
  found = None if is_node(x) else level(x)
  if found is None:
    yield path, x
    return
  for name, part in zip(found.names, found.parts, strict=True):
    yield from _walk(part, (*path, name))


def joined(name: str, field: str) -> str:
  """Returns the name of an array in a node; a node that is the whole tree has none.

  Args:
    name: of the node.
    field: of the array in it.

  Returns:
    "name/field", or the one that is not empty.
  """
  return f"{name}/{field}" if name and field else name or field


def measurable(tree: Any) -> list[tuple[str, Any]]:
  """Finds the arrays and leaves of a tree, and nothing else.

  Args:
    tree: any pytree.

  Returns:
    [(name, array or leaf)] by the names of `named`. Typed PRNG keys are the words that
    they consist of, Python's numbers are numpy's; what is not an array is left out.

  Example:
    >>> measurable({"rate": 0.5, "activation": abs})
    [('rate', array(0.5))]
  """
  found = []
  for name, x in named(tree):
    inside = [("", x)]
    if is_node(x) and (not is_leaf(x) or x.is_half()):
      # A grid that stands alone, or half a leaf: no weight, but arrays.
      flat = jax.tree_util.tree_flatten_with_path(x)[0]
      inside = [(path_str(path), array) for path, array in flat]
    for field, value in inside:
      value = value if is_leaf(value) else plain(value)
      if value is not None:
        found.append((joined(name, field), value))
  return found


def plain(x: Any) -> Any:
  """Returns the array of numbers that something is stored as.

  Args:
    x: an array, a typed PRNG key, a number, or anything else.

  Returns:
    A JAX or numpy array; None of what is not an array of numbers.
  """
  if isinstance(x, jax.Array):
    return np.asarray(jax.random.key_data(x)) if is_key(x) else x
  if not isinstance(x, np.ndarray | np.generic | bool | int | float | complex):
    return None
  x = np.asarray(x)
  if x.dtype.kind in _NO_NUMBERS or x.dtype.names:
    return None
  # Files are written as this machine has its numbers; other bytes would be read as other numbers.
  return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def is_key(x: Any) -> bool:
  """Returns whether something is a typed PRNG key (or an array of them).

  Args:
    x: anything.

  Returns:
    True or False.
  """
  return isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def change(tree: Any, changed: Callable[[str, Any], Any], path: str = "") -> Any:
  """Changes nodes, arrays and what else lies in a tree's containers.

  Args:
    tree: any pytree.
    changed: (path, node or array) -> what takes its place.
    path: of the tree.

  Returns:
    The same containers around what `changed` returned; dicts in their own order.

  Example:
    >>> change({"b": 1, "a": (2, None)}, lambda path, x: f"{path}={x}")
    {'b': 'b=1', 'a': ('a/0=2', None)}
  """
  if tree is None:
    return None
  found = None if is_node(tree) else level(tree)
  if found is None:
    return changed(path, tree)
  return found.with_parts([change(part, changed, joined(path, name))
                           for name, part in zip(found.names, found.parts, strict=True)])


def frozen(tree: Any) -> Any:
  """Freezes every leaf, like `tree.freeze`, but dicts keep their order.

  Args:
    tree: any pytree.

  Returns:
    The same with deployed leaves.

  Raises:
    ValueError: as in `tree.freeze`.
  """
  def one(path: str, x: Any) -> Any:
    with checks.of_leaf(path):
      return freeze_of(x)

  return change(tree, one)


def is_own_class(x: Any) -> bool:
  """Returns whether a container is of a class that may also hold functions and settings.

  Args:
    x: a container.

  Returns:
    False of dicts, lists, tuples and other mappings.
  """
  return type(x) not in (list, tuple) and not isinstance(x, Mapping)


def type_name(cls: type) -> str:
  """Returns a class' name with its module.

  Args:
    cls: the class.

  Returns:
    For instance "collections.OrderedDict".

  Example:
    >>> import collections
    >>> type_name(collections.OrderedDict)
    'collections.OrderedDict'
  """
  return f"{cls.__module__}.{cls.__qualname__}"

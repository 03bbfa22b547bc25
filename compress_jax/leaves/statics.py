"""Whether a node's static fields hold what their annotations say."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from typing import Any

_PLAIN = (bool, int, float, str)


@functools.cache
def hints(cls: type) -> dict[str, Any]:
  """Returns the annotation of every static field of a node class.

  Works the same with and without `from __future__ import annotations`.

  Args:
    cls: a dataclass whose static fields are declared by `base.static`.

  Returns:
    {name: type}, in the order of the fields.

  Raises:
    TypeError: an annotation is none of those that a file can keep: bool, int, float,
      str, tuples of them, and unions of these with None.
  """
  found = {}
  for field in dataclasses.fields(cls):
    if not field.metadata.get("static"):
      continue
    hint = _evaluated(cls, field)
    if not _is_known(hint):
      raise TypeError(f"{cls.__name__}.{field.name}: a static field of type {hint}; must be bool, "
                      "int, float, str, a tuple of these, or one of them or None")
    found[field.name] = hint
  return found


def _evaluated(cls: type, field: dataclasses.Field) -> Any:
  """Returns an annotation that may be text, as `from __future__ import annotations` keeps it."""
  hint = field.type
  # The names in it are those of the module that wrote it, which may be a base class's.
  owner = next(c for c in cls.__mro__ if field.name in vars(c).get("__annotations__", {}))
  names = dict(vars(sys.modules[owner.__module__])) if owner.__module__ in sys.modules else {}
  while isinstance(hint, str):
    try:
      hint = eval(hint, names)
    except NameError as error:
      raise TypeError(f"{cls.__name__}.{field.name}: a static field of type {field.type}, of which "
                      f"{error.name!r} is not known in its module; must be spelled out") from None
  return hint


def _is_known(hint: Any) -> bool:
  if hint in _PLAIN or hint in (None, type(None), Ellipsis):
    return True
  if _is_union(hint) or typing.get_origin(hint) is tuple:
    return all(_is_known(part) for part in typing.get_args(hint))
  return False


def _is_union(hint: Any) -> bool:
  return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union


def holds(hint: Any, value: Any) -> bool:
  """Returns whether a value is of an annotated type; a bool is no int.

  Args:
    hint: as `hints` gives it.
    value: anything.

  Returns:
    True or False.

  Example:
    >>> holds(int, 3), holds(int, True), holds(tuple[int, ...], (1, 2)), holds(int | None, None)
    (True, False, True, True)
  """
  if hint in (None, type(None)):
    return value is None
  if _is_union(hint):
    return any(holds(part, value) for part in typing.get_args(hint))
  if hint is float:
    return type(value) in (float, int)
  if typing.get_origin(hint) is not tuple:
    return type(value) is hint
  if not isinstance(value, tuple):
    return False
  parts = typing.get_args(hint)
  if len(parts) == 2 and parts[1] is Ellipsis:
    return all(holds(parts[0], x) for x in value)
  return len(parts) == len(value) and all(map(holds, parts, value))


def check(node: Any) -> None:
  """Raises a ValueError that names the first static field that holds something else.

  Args:
    node: an instance of a node class.

  Raises:
    ValueError: names the class, the field, the value and what it must be.
  """
  for name, hint in hints(type(node)).items():
    value = getattr(node, name)
    if not holds(hint, value):
      shown = getattr(hint, "__name__", str(hint)) if hint in _PLAIN else str(hint)
      raise ValueError(f"{type(node).__name__}.{name}: {repr(value)[:60]}; must be {shown}")

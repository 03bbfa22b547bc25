"""What was read, put into containers of the kinds that another tree has."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from compress_jax.io import containers
from compress_jax.io.structure import Absent
from compress_jax.leaves import is_node


def fit(loaded: Any, like: Any) -> Any:
  """Puts the arrays and leaves of a tree that was read into the containers of another.

  Args:
    loaded: dicts, lists and tuples, as a file without `like=` gives them.
    like: a tree of the same names: the model, its shapes from `jax.eval_shape`, or the
      parameters before they were compressed. What is not an array in it (functions, strings,
      static fields) is taken from it.

  Returns:
    The containers of `like` with what was read in place of its arrays and leaves. Where
    `like` has one of Python's numbers, it is one again.

  Raises:
    ValueError: names, shapes or kinds differ; the message has the first path that does.

  Example:
    >>> import collections
    >>> Layer = collections.namedtuple("Layer", ["w", "activation"])
    >>> fit({"w": np.ones(2), "activation": None}, Layer(np.zeros(2), abs))
    Layer(w=array([1., 1.]), activation=<built-in function abs>)
  """
  return _fit(loaded, like, "")


def _fit(loaded: Any, like: Any, path: str) -> Any:
  level = None if is_node(like) else containers.level(like)
  if level is None:
    return _fit_one(loaded, like, path)
  found = _parts(loaded)
  if found is None:
    raise _differ(path, _called(loaded), _called(like))
  parts = dict(zip(level.names, level.parts, strict=True))
  fitted = []
  for name, part in parts.items():
    inner = containers.joined(path, name)
    if name in found:
      fitted.append(_fit(found[name], part, inner))
    elif _has_arrays(part):
      raise _differ(inner, "nothing", _called(part))
    else:
      fitted.append(part)
  for name in found:
    if name not in parts:
      raise _differ(containers.joined(path, name), _called(found[name]), "nothing")
  return level.with_parts(fitted)


def _has_arrays(like: Any) -> bool:
  return any(map(_is_array, jax.tree.leaves(like, is_leaf=is_node)))


def _is_array(x: Any) -> bool:
  """Returns whether `like` has an array or leaf somewhere, or the shape of one."""
  return is_node(x) or hasattr(x, "shape")


def _parts(loaded: Any) -> dict[str, Any] | None:
  """Returns the parts of a dict, list or tuple by name; None of anything else."""
  level = None if is_node(loaded) else containers.level(loaded)
  return None if level is None else dict(zip(level.names, level.parts, strict=True))


def _fit_one(loaded: Any, like: Any, path: str) -> Any:
  """Returns what comes where `like` has a leaf, an array, None or any other object."""
  missing = isinstance(loaded, Absent | None)
  is_number = containers.plain(like) is not None and not _is_array(like)
  if missing and not _is_array(like):
    return like  # functions and settings are in no file, numbers need not be
  fits = (_is_array(like) or is_number) and _parts(loaded) is None
  if missing or not fits or _shape(loaded) != _shape(like):
    raise _differ(path, _called(loaded), _called(like))
  # Models branch on their numbers (is dropout off?), which a traced array would not allow.
  return loaded.item() if is_number and not is_node(loaded) else loaded


def _shape(x: Any) -> tuple[int, ...] | None:
  """Returns the shape of an array, a number or a leaf; a grid that stands alone has none."""
  shape = getattr(x, "shape", None)
  if shape is None and is_node(x):
    return None
  return tuple(np.shape(x) if shape is None else shape)


def _differ(path: str, file_has: str, like_has: str) -> ValueError:
  return ValueError(f"{path or 'the tree'}: the file has {file_has}, like= has {like_has}; must "
                    "have the same structure")


def _called(x: Any) -> str:
  """Returns what something is, in a few words."""
  if x is None:
    return "None"
  if isinstance(x, Absent):
    return f"no array (when it was written, a {x.kind})"
  parts = _parts(x)
  if parts is not None:
    return f"a {type(x).__name__} of {', '.join(list(parts)[:8]) or 'nothing'}"
  if not _is_array(x) and containers.plain(x) is None:
    return f"a {type(x).__name__}"
  what = f"a {type(x).__name__}" if is_node(x) else "an array"
  return what if _shape(x) is None else f"{what} of shape {_shape(x)}"

"""Arrays on disk: Orbax, whichever release of it is installed."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp


def save(path: Path, tree: Any) -> None:
  """Writes a tree of arrays; Orbax refuses one without arrays, or arrays without elements."""
  _call("save", path, tree)


def load(path: Path) -> Any:
  """Reads the tree of arrays that is in a directory.

  Raises:
    ValueError: it cannot be read; the message gives Orbax's reason in a line.
  """
  return _read("load", path)


def shapes(path: Path) -> Any:
  """Reads a tree of what has `shape` and `dtype`, and none of the arrays' elements.

  Raises:
    ValueError: it cannot be read; the message gives Orbax's reason in a line.

  Example:
    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "arrays"
    >>> save(path, {"w": np.ones((2, 3))})
    >>> shapes(path)["w"].shape
    (2, 3)
  """
  return _read("metadata", path).metadata


def load_each(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
  """Reads arrays one by one, for where `load` fails.

  Returns:
    {"/"-joined name: array} of those that can be read, and {name: why not}.

  Raises:
    ValueError: not even the names can be read.

  Example:
    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "arrays"
    >>> save(path, {"w": np.ones(2), "b": np.zeros(1)})
    >>> load_each(path)
    ({'b': array([0.]), 'w': array([1., 1.])}, {})
  """
  entries, structure = jax.tree_util.tree_flatten_with_path(shapes(path))
  found, problems = {}, {}
  for number, (keys, entry) in enumerate(entries):
    only = [ocp.PLACEHOLDER] * len(entries)
    only[number] = entry
    name = "/".join(str(getattr(k, "key", getattr(k, "idx", k))) for k in keys)
    try:
      found[name] = jax.tree.leaves(_read("load", path, jax.tree.unflatten(structure, only)),
                                    is_leaf=lambda x: x is ocp.PLACEHOLDER)[number]
    except ValueError as error:
      problems[name] = str(error)
  return found, problems


def looks_like(path: Path) -> bool:
  """Returns whether a directory is an Orbax checkpoint of a tree."""
  # Orbax's own function also says yes to a directory without a checkpoint.
  return any((path / name).is_file() for name in ("_METADATA", "_CHECKPOINT_METADATA"))


def _read(verb: str, path: Path, *args: Any) -> Any:
  try:
    with _quiet():
      return _call(verb, path, *args)
  except Exception as error:  # tensorstore raises many kinds for a damaged file
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    raise ValueError(reason[0][:120]) from error


def _call(verb: str, *args: Any) -> Any:
  """Calls Orbax's function of that name; older releases have `VERB_pytree`, `pytree_VERB`."""
  names = (verb, f"{verb}_pytree", f"pytree_{verb}")
  return next(getattr(ocp, name) for name in names if hasattr(ocp, name))(*args)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps "restored without a target" and tales of missing files off the terminal."""
  logger = logging.getLogger("absl")
  before = logger.level
  logger.setLevel(logging.CRITICAL)
  try:
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      yield
  finally:
    logger.setLevel(before)

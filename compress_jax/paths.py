"""How places in a tree are named."""

from __future__ import annotations

from typing import Any


def path_str(path: tuple[Any, ...]) -> str:
  """Returns a key path as "/"-joined names.

  Args:
    path: what `jax.tree_util.tree_flatten_with_path` gives.

  Returns:
    For instance "params/Dense_0/kernel".
  """
  return "/".join(str(key_of(entry)) for entry in path)


def key_of(entry: Any) -> Any:
  """Returns what stands in one entry of a key path.

  Args:
    entry: of `jax.tree_util`.

  Returns:
    A dict's key, the name of an attribute, or a position in a sequence.

  Example:
    >>> import jax
    >>> key_of(jax.tree_util.SequenceKey(2))
    2
  """
  for attribute in ("key", "name", "idx"):
    if hasattr(entry, attribute):
      return getattr(entry, attribute)
  return str(entry)

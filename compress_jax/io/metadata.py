"""Metadata beside a tree: what JSON holds, checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any, name: str = "metadata") -> Any:
  """Returns metadata as what comes back when it is read.

  Args:
    value: numbers, texts, booleans, None; lists, tuples and dicts of these. Arrays of one
      element, JAX's or numpy's, count as numbers.
    name: of the value, for the error.

  Returns:
    The same of Python's own types; tuples are lists.

  Raises:
    ValueError: something else, or a key that is no text; the message names its place.

  Example:
    >>> import numpy as np
    >>> plain({"accuracy": np.float32(0.5), "shape": (3, 2)})
    {'accuracy': 0.5, 'shape': [3, 2]}
  """
  if isinstance(value, Mapping):
    for key in value:
      if not isinstance(key, str):
        raise ValueError(f"{name}: key {key!r}: must be a text")
    return {key: plain(item, f"{name}.{key}") for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item, f"{name}[{place}]") for place, item in enumerate(value)]
  if getattr(value, "shape", None) == () and hasattr(value, "item"):
    value = value.item()
  if value is not None and not isinstance(value, str | bool | int | float):
    raise ValueError(f"{name}: a {type(value).__name__}; must be a number, a text, a bool, None or "
                     "a list or dict of these")
  return value

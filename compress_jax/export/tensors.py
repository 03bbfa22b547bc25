"""`safetensors`: the weights by name, dense or as they are deployed."""

from __future__ import annotations

import collections
import json
import os
from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.extras import need
from compress_jax.io import files
from compress_jax.io.structure import describe
from compress_jax.leaves import is_leaf, is_node


def safetensors(path: str | os.PathLike[str], params: Any, *, dense: bool = False) -> int:
  """Writes the weights as a safetensors file.

  Deployed, a plain array at "layer/bias" keeps that name, and a leaf's arrays come
  after it: "layer/kernel.integers" (int8, or int16 beyond 8 bits), ".scale",
  ".zero_point", ".input.scale"; ".blocks", ".rows"; ".u.integers" of a factor.
  The metadata's "compress_jax" holds the tree as JSON: each leaf's type, its static
  fields, and the names of its arrays.

  Args:
    path: the file; replaced once the new one is complete.
    params: a parameter tree; trainable leaves are frozen first.
    dense: whether every leaf is written as the one array that it stands for.

  Returns:
    The file's size in bytes.

  Raises:
    ImportError: the package safetensors is missing.
    ValueError: something in the tree cannot be stored, or two names are the same.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> from safetensors.numpy import load_file
    >>> import compress_jax as cj
    >>> path = tempfile.mkdtemp() + "/model.safetensors"
    >>> _ = cj.export.safetensors(path, cj.quantize.affine({"w": 2 * jnp.eye(2)}, bits=8))
    >>> {name: x.tolist() for name, x in sorted(load_file(path).items())}["w.integers"]
    [[127, 0], [0, 127]]
  """
  library = need("safetensors.numpy", "safetensors")
  failures = (TypeError, ValueError, KeyError, need("safetensors", "safetensors").SafetensorError)
  params = tree.freeze(params)
  params = tree.dense(params) if dense else params
  structure, arrays = describe(params)
  names = _names(params, arrays)
  tensors = {names[old]: np.ascontiguousarray(x).reshape(x.shape) for old, x in arrays.items()}
  described = json.dumps(_renamed(structure, names), separators=(",", ":"))
  try:
    data = library.save(tensors, metadata={"compress_jax": described})
  except failures as error:
    raise ValueError(f"params: safetensors cannot store them ({error})") from None
  return files.write(path, data)


def _names(params: Any, arrays: dict[str, Any]) -> dict[str, str]:
  """Returns {name in the structure: name in the file}."""
  names = {}
  for path, x in tree.entries(params)[0]:
    if not is_leaf(x):
      names[path] = path or "value"
      continue
    for field in _fields(x):
      # A leaf that is the whole tree has no path of its own.
      before = [path] if path else []
      names["/".join([*before, *field])] = ".".join([*before, *field])
  taken = [name for name, uses in collections.Counter(names.values()).items() if uses > 1]
  if taken or names.keys() != arrays.keys():
    raise ValueError(f"params: two arrays would be named {taken or sorted(names)}; keys must not "
                     "look like a leaf's field")
  return names


def _fields(x: Any) -> list[tuple[str, ...]]:
  """Returns the path of every array in a node; of an array, its own empty one."""
  if not is_node(x):
    return [()]
  found = []
  for name, value in x.fields().items():
    if value is not None:
      found += [(name, *rest) for rest in _fields(value)]
  return found


def _renamed(structure: Any, names: dict[str, str]) -> Any:
  """Returns a tree's structure with its arrays' names in the file."""
  if isinstance(structure, list):
    return [_renamed(x, names) for x in structure]
  if not isinstance(structure, dict):
    return structure
  if "array" in structure and isinstance(structure["array"], str):
    return structure | {"array": names[structure["array"]]}
  return {k: _renamed(v, names) for k, v in structure.items()}

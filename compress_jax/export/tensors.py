"""`safetensors`: the weights by name, dense or as they are deployed."""

from __future__ import annotations

import collections
import json
import os
from typing import Any

import numpy as np

from compress_jax.extras import need
from compress_jax.io import containers, files
from compress_jax.io.structure import describe
from compress_jax.leaves import dense_of, is_node


def safetensors(path: str | os.PathLike[str], params: Any, *, dense: bool = False) -> int:
  """Writes the weights as a safetensors file.

  Deployed, a plain array at "layer/bias" keeps that name, and a leaf's arrays come
  after it: "layer/kernel.integers" (int8, or int16 beyond 8 bits), ".scale",
  ".zero_point", ".input.scale"; ".blocks", ".rows"; ".u.integers" of a factor.
  The metadata's "compress_jax" holds the tree as JSON: each leaf's type, its static
  fields, and the names of its arrays.

  Args:
    path: the file; replaced once the new one is complete.
    params: any pytree; trainable leaves are frozen first. What is not an array in a model's
      class (functions, strings) is not in the file.
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
  # Its numpy part has no 8-bit floats, and says so by an AttributeError.
  failures = (AttributeError, TypeError, ValueError, KeyError,
              need("safetensors", "safetensors").SafetensorError)
  params = containers.frozen(params)
  if dense:
    params = containers.change(params, lambda path, x: dense_of(x))
  structure, arrays = describe(params)
  names = _names(params)
  tensors = {names[old]: np.ascontiguousarray(x).reshape(x.shape) for old, x in arrays.items()}
  described = json.dumps(_renamed(structure, names), separators=(",", ":"))
  try:
    data = library.save(tensors, metadata={"compress_jax": described})
  except failures as error:
    raise ValueError(f"params: safetensors cannot store them ({error})") from None
  return files.write(path, data)


def _names(params: Any) -> dict[str, str]:
  """Returns {name in the structure: name in the file}."""
  names = {}
  for name, x in containers.named(params):
    for field in _fields(x):
      # A leaf that is the whole tree has no name of its own.
      before = [name] if name else []
      names["/".join([*before, *field])] = ".".join([*before, *field]) or "value"
  taken = [name for name, uses in collections.Counter(names.values()).items() if uses > 1]
  if "__metadata__" in names.values():
    raise ValueError("params: a key is '__metadata__', which the format keeps for itself; must be "
                     "another")
  if taken:
    raise ValueError(f"params: two arrays would be named {taken}; keys must not look like a "
                     "leaf's field")
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

"""PyTorch's weight files, read without PyTorch and without running what is pickled in them."""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import zipfile
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool"}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
  """Reads the tensors of a state dict that `torch.save` wrote.

  Pickles can name any function to call. Here only what a state dict consists of is
  known, and everything else is refused before anything is called.

  Args:
    path: a zip file, as PyTorch writes since version 1.6.

  Returns:
    {name: array}, read-only, in the file's order; bfloat16 as `ml_dtypes` has it.

  Raises:
    ValueError: the file is of an older PyTorch, damaged, or has something other
      than tensors by name; says what.
    OSError: it cannot be read.
  """
  # Opened first, so that a missing file is one.
  with open(path, "rb") as file:
    if not zipfile.is_zipfile(file):
      raise ValueError(f"{path}: not a zip file, which torch.save writes since PyTorch 1.6; "
                       "load it with PyTorch and save it again")
    try:
      with zipfile.ZipFile(file) as archive:
        tensors = _Unpickler(archive).load()
    except ValueError as error:
      raise ValueError(f"{path}: {error}") from None
    # Bytes that are no pickle can raise nearly anything.
    except Exception as error:
      raise ValueError(f"{path}: damaged ({type(error).__name__}: {error})") from None
  return _checked(path, tensors)


def _checked(path: Any, tensors: Any) -> dict[str, np.ndarray]:
  if not isinstance(tensors, dict):
    raise ValueError(f"{path}: holds a {type(tensors).__name__}; must be a state dict")
  for name, value in tensors.items():
    if not isinstance(name, str) or not isinstance(value, np.ndarray):
      raise ValueError(f"{path}: {name!r} is a {type(value).__name__}; "
                       "a state dict has tensors by name")
  return dict(tensors)


class _Unpickler(pickle.Unpickler):
  """Knows tensors, their storages and dictionaries, and nothing else."""

  def __init__(self, archive: zipfile.ZipFile):
    pickles = [n for n in archive.namelist() if n.split("/")[1:] == ["data.pkl"]]
    if len(pickles) != 1:
      raise ValueError("no data.pkl in it: not written by torch.save")
    self.archive, self.folder = archive, pickles[0].removesuffix("data.pkl")
    self.storages: dict[str, bytes] = {}
    order = f"{self.folder}byteorder"
    if order in archive.namelist() and self.bytes_of("byteorder") != b"little":
      raise ValueError(f"byteorder={self.bytes_of('byteorder')!r}: must be b'little'")
    super().__init__(io.BytesIO(self.bytes_of("data.pkl")))

  def bytes_of(self, name: str) -> bytes:
    """Returns a file of the archive.

    Args:
      name: below the archive's folder.

    Raises:
      ValueError: it is compressed.
    """
    info = self.archive.getinfo(self.folder + name)
    if info.compress_type != zipfile.ZIP_STORED:
      # Nothing is larger in memory than in the file.
      raise ValueError(f"{name} is compressed, which torch.save never does")
    return self.archive.read(info)

  def find_class(self, module: str, name: str) -> Any:
    """Returns what stands for a name in the pickle.

    Args:
      module: as the pickle names it.
      name: of the class or function.

    Raises:
      ValueError: a state dict does not consist of that.
    """
    if (module, name) == ("collections", "OrderedDict"):
      return collections.OrderedDict
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
      return _tensor
    if module == "torch" and name in _STORAGES:
      return _STORAGES[name]
    raise ValueError(f"{module}.{name} in its pickle: must be what state dicts consist of "
                     "(OrderedDict, tensors, storages); nothing was run")

  def persistent_load(self, pid: Any) -> np.ndarray:
    """Returns the storage that ("storage", dtype, file, device, elements) names, flat.

    Args:
      pid: that tuple.

    Raises:
      ValueError: it names something else, or another number of elements than there are.
    """
    kind, dtype, key, _, count = pid
    if kind != "storage" or dtype not in _STORAGES.values() or not isinstance(key, str):
      _refuse("storage", pid)
    if key not in self.storages:
      self.storages[key] = self.bytes_of(f"data/{key}")
    data = np.frombuffer(self.storages[key], jnp.dtype(dtype))
    if len(data) != count:
      raise ValueError(f"data/{key} has {len(data)} elements where {count} are announced")
    return data


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
  """Returns a view of a flat storage: so many tensors may share one."""
  numbers = (offset, *shape, *strides)
  if (not isinstance(storage, np.ndarray) or len(shape) != len(strides)
      or not all(type(n) is int and n >= 0 for n in numbers)):
    _refuse("tensor", numbers)
  count = math.prod(shape)
  last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
  # A stride of 0 would make few elements many.
  if count and (last >= storage.size or count > storage.size):
    raise ValueError(f"a tensor of shape {shape} leaves its storage of {storage.size} elements")
  if not count:
    return np.zeros(shape, storage.dtype)
  steps = tuple(s * storage.itemsize for s in strides)
  return np.lib.stride_tricks.as_strided(storage[offset:], shape, steps, writeable=False)


def _refuse(what: str, value: Any) -> NoReturn:
  raise ValueError(f"a {what} of another kind in its pickle: {value!r:.200}")

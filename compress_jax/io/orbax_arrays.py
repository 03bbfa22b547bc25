"""Arrays on disk: Orbax, whichever release of it is installed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tensorstore
from orbax.checkpoint import v1 as ocp

from compress_jax.paths import path_str

WHOLE = "_CHECKPOINT_METADATA"  # a file that every checkpoint has
_TREE = "_METADATA"  # one that every tree of arrays has
_BESIDE = 2**16  # bytes that Orbax's own files take beside the arrays


def save(path: Path, tree: Any) -> None:
  """Writes a tree of arrays; see `start`.

  Args:
    path: a directory that is not there yet.
    tree: of arrays.
  """
  start(path, tree).result()


def start(path: Path, tree: Any) -> Writing:
  """Starts to write a tree of arrays; all processes do.

  Args:
    path: a directory that is not there yet.
    tree: of arrays; Orbax refuses one without arrays, or with arrays without elements.

  Returns:
    What waits until they are on disk.

  Raises:
    OSError: the disk is full (`errno.ENOSPC`).
  """
  # Looked at first: Orbax's threads write hundreds of lines about a disk that is full, which
  # no caller can catch.
  nbytes = sum(x.nbytes for x in jax.tree.leaves(tree))
  if shutil.disk_usage(path.parent).free < nbytes + _BESIDE:
    raise _disk_full(path)
  with _disk_full_told(path), _quiet():
    return Writing(path, _call("save", path, tree, background=True))


class Writing:
  """Arrays that Orbax writes in the background."""

  def __init__(self, path: Path, response: Any):
    """Takes what Orbax gave.

    Args:
      path: the directory.
      response: its `result` waits.
    """
    self._path, self._response = path, response

  def result(self) -> None:
    """Waits until the arrays are on disk.

    Raises:
      OSError: the disk is full (`errno.ENOSPC`).
    """
    # Without `_quiet`: another thread's warnings are not this one's to hide.
    with _disk_full_told(self._path), _QUIET:
      self._response.result()


@contextlib.contextmanager
def _disk_full_told(path: Path) -> Iterator[None]:
  """Raises an OSError where the disk is full, whatever thread met it and however it is wrapped."""
  try:
    yield
  except Exception as error:
    if _is_disk_full(error):
      raise _disk_full(path) from error
    raise


def _disk_full(path: Path) -> OSError:
  return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _is_disk_full(error: BaseException | None) -> bool:
  """Returns whether an error, or one that it came from, is that of a full disk."""
  while error is not None:
    # The second is of a disk on which this user may have no more.
    for number in (errno.ENOSPC, errno.EDQUOT):
      if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
        return True
    error = error.__cause__ or error.__context__
  return False


def load(path: Path, item: str | None = None) -> Any:
  """Reads the tree of arrays that is in a directory.

  Args:
    path: the directory.
    item: which one of several that were saved together; None where there is only one.

  Returns:
    The tree; arrays are NumPy's, whatever devices held them when they were saved.

  Raises:
    ValueError: it cannot be read; the message gives Orbax's reason in one line.
  """
  try:
    found = _read("load", path, item=item)
  except ValueError as error:
    # Perhaps only the devices of the arrays are not here.
    try:
      return _loaded_on_host(path, item)
    except ValueError:
      raise error from None
  # NumPy's were saved as such; those of devices may be held by other processes in part.
  held = any(isinstance(x, jax.Array) for x in jax.tree.leaves(found))
  return _loaded_on_host(path, item) if held else found


def _loaded_on_host(path: Path, item: str | None) -> Any:
  return _read("load", path, jax.tree.map(_on_host, shapes(path, item)), item=item)


def _on_host(entry: Any) -> Any:
  """Returns what lets Orbax read an array into this process's memory, of an entry of `shapes`."""
  # Orbax would look for the devices on which an array was saved, which are not always here.
  return np.empty(entry.shape, entry.dtype) if _is_array(entry) else entry


def _is_array(entry: Any) -> bool:
  return hasattr(entry, "sharding_metadata") and hasattr(entry, "dtype")


def shapes(path: Path, item: str | None = None) -> Any:
  """Reads the shapes of a tree of arrays, and none of their elements.

  Args:
    path: the directory.
    item: as for `load`.

  Returns:
    A tree of what has `shape` and `dtype`; a number or a text stands for one of its kind.

  Raises:
    ValueError: it cannot be read; the message gives Orbax's reason in one line.

  Example:
    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "arrays"
    >>> save(path, {"w": np.ones((2, 3))})
    >>> shapes(path)["w"].shape
    (2, 3)
  """
  return _read("metadata", path, item=item).metadata


def load_each(path: Path, item: str | None = None) -> tuple[dict[str, Any], dict[str, str]]:
  """Reads arrays one by one, for where `load` fails.

  Args:
    path: the directory.
    item: as for `load`.

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
  entries, structure = jax.tree_util.tree_flatten_with_path(shapes(path, item))
  found, problems = {}, {}
  for number, (keys, entry) in enumerate(entries):
    only = [ocp.PLACEHOLDER] * len(entries)
    only[number] = _on_host(entry)
    name = path_str(keys)
    try:
      read = _read("load", path, jax.tree.unflatten(structure, only), item=item)
    except ValueError as error:
      problems[name] = str(error)
      continue
    found[name] = jax.tree.leaves(read, is_leaf=lambda x: x is ocp.PLACEHOLDER)[number]
  return found, problems


def packed(x: np.ndarray) -> np.ndarray:
  """Returns what Orbax can write of an array.

  Args:
    x: array of any dtype.

  Returns:
    The array itself, or where Orbax has no such dtype (uint4, some of 8 bits) its bytes: of the
    same shape, with those of an element along one more axis.

  Example:
    >>> import jax.numpy as jnp
    >>> packed(np.ones(3, jnp.uint4)).shape
    (3, 1)
  """
  if _is_known(x.dtype.name):
    return x
  return np.frombuffer(x.tobytes(), np.uint8).reshape(*x.shape, x.dtype.itemsize)


def unpacked(x: Any, dtype: str) -> Any:
  """Returns an array as it was before `packed`.

  Args:
    x: what was read.
    dtype: name of the dtype that it had.

  Returns:
    The array.

  Example:
    >>> import jax.numpy as jnp
    >>> unpacked(packed(np.ones(3, jnp.uint4)), "uint4")
    array([1, 1, 1], dtype=uint4)
  """
  if x.dtype != np.uint8 or _is_known(dtype):
    return x
  try:
    known = jnp.dtype(dtype)
  except TypeError:
    return x  # a manifest that was changed: the array will be found not to be like it
  if x.shape[-1:] != (known.itemsize,):
    return x
  return np.frombuffer(np.asarray(x).tobytes(), known).reshape(x.shape[:-1])


def _is_known(dtype: str) -> bool:
  """Returns whether Orbax, by way of TensorStore, has a dtype of that name."""
  try:
    tensorstore.dtype(dtype)
  except (TypeError, ValueError):
    return False
  return True


def items(path: Path) -> list[str]:
  """Returns the names of the trees that were saved together in a directory.

  Args:
    path: the directory.

  Returns:
    Names in their order; none where the directory itself is a tree's.

  Example:
    >>> import tempfile, numpy as np
    >>> path = Path(tempfile.mkdtemp()) / "both"
    >>> ocp.save_checkpointables(path, {"params": {"w": np.ones(2)}, "ema": {"w": np.ones(2)}})
    >>> items(path), shapes(path, "ema")["w"].shape
    (['ema', 'params'], (2,))
  """
  if (path / _TREE).is_file():
    return []
  return sorted(part.parent.name for part in path.glob(f"*/{_TREE}"))


def looks_like(path: Path) -> bool:
  """Returns whether a directory is an Orbax checkpoint of a tree.

  Args:
    path: the directory.

  Returns:
    True or False.
  """
  # Orbax's own function also says yes to a directory without a checkpoint.
  return any((path / name).is_file() for name in (_TREE, WHOLE))


def _read(verb: str, path: Path, *args: Any, item: str | None = None) -> Any:
  # Left out, Orbax finds the only one itself.
  which: dict[str, Any] = {} if item is None else {"checkpointable_name": item}
  try:
    with _quiet():
      return _call(verb, path, *args, **which)
  except Exception as error:  # tensorstore raises many kinds for a damaged file
    reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
    raise ValueError(reason[0][:120]) from error


def _call(verb: str, *args: Any, background: bool = False, **options: Any) -> Any:
  """Calls Orbax's function of that name; older releases have `VERB_pytree`, `pytree_VERB`."""
  for name in (verb, f"{verb}_pytree", f"pytree_{verb}"):
    name += "_async" if background else ""
    if hasattr(ocp, name):
      return getattr(ocp, name)(*args, **options)
  raise ImportError(f"orbax.checkpoint: this release has no way to {verb}")


def _not_of_orbax(record: logging.LogRecord) -> bool:
  return "orbax" not in record.pathname


class _Quiet:
  """Keeps what Orbax tells of files and threads off the terminal; its errors are raised."""

  def __init__(self) -> None:
    self._lock, self._inside, self._before = threading.Lock(), 0, 0

  def __enter__(self) -> None:
    # Of all threads that are inside: the last one out puts everything back.
    with self._lock:
      if not self._inside:
        logger = logging.getLogger("absl")
        self._before = logger.level
        logger.setLevel(logging.CRITICAL)
        # It also warns by the root logger: of files that are where a newer layout has them.
        logging.getLogger().addFilter(_not_of_orbax)
      self._inside += 1

  def __exit__(self, *error: object) -> None:
    with self._lock:
      self._inside -= 1
      if not self._inside:
        logging.getLogger("absl").setLevel(self._before)
        logging.getLogger().removeFilter(_not_of_orbax)


_QUIET = _Quiet()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps Orbax's log and its warnings off the terminal."""
  with _QUIET, warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield

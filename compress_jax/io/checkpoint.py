"""Checkpoints: Orbax for the arrays, a checked manifest for everything else."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.io import (
  containers,
  files,
  leaf_summary,
  manifest,
  orbax_arrays,
  processes,
  replacing,
  validation,
)
from compress_jax.io.like import fit
from compress_jax.io.manifest import CheckpointError, damaged_files
from compress_jax.io.metadata import plain
from compress_jax.io.structure import array_entries, describe, rebuild, restored
from compress_jax.io.turns import Turns

__all__ = ["CheckpointError", "check", "damaged_files", "exists", "load", "overview",
           "read_manifest", "save", "save_async"]

_TURNS = Turns()  # of the saves that go on, by their paths


def save(path: str | os.PathLike[str], tree: Any, **metadata: Any) -> None:
  """Writes a tree, all or nothing.

  Where `jax.distributed` connects several processes, all of them call it. Each writes its part
  of the arrays that are spread over them, and the first writes the rest; when it returns, all
  see what is there.

  Args:
    path: a directory that is made, or replaced once the new one is complete.
    tree: any pytree. What is not an array in a model's class (functions, strings) is not kept.
    **metadata: JSON-able values kept in the manifest.

  Raises:
    ValueError: something in the tree cannot be stored, a leaf is not sound, or something lies at
      the path that is not a checkpoint, or not only one.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> save(path, {"w": np.ones(2, np.float32)}, epoch=3)
    >>> load(path)[1]
    {'epoch': 3}
  """
  begun = _begin(path, tree, metadata)
  _finish(begun, _TURNS.take(begun.path))


def save_async(path: str | os.PathLike[str], tree: Any, **metadata: Any) -> Future[None]:
  """Writes a tree as `save` does, while the program goes on.

  The arrays are copied first: their memory may be donated to the next step at once. Of several
  saves to one path, by this function or `save`, each takes its place after the one before it:
  the last call counts, and a `save` also waits for those in the background.

  Args:
    path: a directory that is made, or replaced once the new one is complete.
    tree: any pytree.
    **metadata: JSON-able values kept in the manifest.

  Returns:
    Its `result()` waits until the checkpoint is complete, and raises what went wrong with it. A
    program that ends waits for it too.

  Raises:
    ValueError: as `save` does, at once.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> saving = save_async(path, {"w": np.ones(2, np.float32)}, epoch=3)
    >>> saving.result()
    >>> load(path)[1]
    {'epoch': 3}
  """
  # By containers, so that dicts keep their order.
  copied = containers.change(tree, lambda _, x: jax.tree.map(_copied, x))
  begun = _begin(path, copied, metadata)
  turn = _TURNS.take(begun.path)
  thread = ThreadPoolExecutor(1, "checkpoint")
  try:
    return thread.submit(_finish, begun, turn)
  except BaseException:
    _TURNS.leave(begun.path, turn)  # or later saves would wait for it
    raise
  finally:
    thread.shutdown(wait=False)  # it ends after its only task


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Begun:
  """A checkpoint whose arrays are being written.

  Attributes:
    path: where it goes.
    partial: where it is until it is complete.
    known: what its manifest says, but the files' sizes.
    arrays: waits until they are on disk; None where there are none.
  """

  path: Path
  partial: Path
  known: dict[str, Any]
  arrays: Any


def _begin(path: str | os.PathLike[str], tree: Any, metadata: dict[str, Any]) -> _Begun:
  """Checks a tree, describes it, and lets Orbax start."""
  # What a link points to is replaced, and not the link.
  path, whole = Path(path).resolve(), processes.whole(tree)
  replacing.check(path)
  validation.leaves(whole, halves=True)
  structure, arrays = describe(whole)
  # Zeros and bytes of each leaf, so that inspecting a study reads no arrays.
  leaves = [leaf_summary.to_json(leaf) for leaf in leaf_summary.summarize(whole)]
  known = {"structure": structure,
           "checksums": {name: manifest.checksum(x) for name, x in arrays.items()},
           "summary": leaves, "metadata": plain(metadata)}
  # As it is now: the caller may change what it gave.
  known = json.loads(json.dumps(known))
  partial = path.with_name(f"{path.name}.partial-{processes.token()}")
  if processes.first():
    partial.mkdir(parents=True)
  processes.meet(f"{partial.name} begins")
  try:
    writing = _start_arrays(partial / "arrays", arrays, tree)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
  return _Begun(path=path, partial=partial, known=known, arrays=writing)


def _start_arrays(path: Path, arrays: dict[str, Any], tree: Any) -> Any:
  """Lets Orbax start to write arrays; returns what waits for them, or None."""
  # Orbax refuses arrays without elements, and trees without arrays.
  filled = {name: orbax_arrays.packed(x) for name, x in arrays.items() if x.size}
  # Every process writes what it holds, of the dtypes that Orbax knows.
  for name, x in describe(tree)[1].items() if processes.several() else ():
    if processes.scattered(x) and filled[name].dtype == x.dtype:
      filled[name] = x
  return orbax_arrays.start(path, filled) if filled else None


def _finish(begun: _Begun, turn: object) -> None:
  """Completes a checkpoint after its last array, and puts it in place when its turn has come."""
  try:
    with _TURNS.waited(begun.path, turn):
      _place(begun)
  finally:
    if processes.first():
      shutil.rmtree(begun.partial, ignore_errors=True)
    processes.meet(f"{begun.partial.name} is there")


def _place(begun: _Begun) -> None:
  if begun.arrays is not None:
    begun.arrays.result()
  if processes.first():
    manifest.write(begun.partial, begun.known)
    files.sync(begun.partial)
    replacing.replace(begun.partial, begun.path)


def _copied(x: Any) -> Any:
  """Returns an array of the same elements whose memory nobody else has."""
  if processes.scattered(x) or containers.is_key(x):
    return jnp.copy(x)
  # On the host: the device may have no room for a second one.
  return np.array(x) if isinstance(x, jax.Array | np.ndarray) else x


def load(path: str | os.PathLike[str], *, like: Any = None) -> tuple[Any, dict[str, Any]]:
  """Reads a tree and checks it against its manifest.

  Dicts (in their own order), OrderedDicts, lists, tuples and leaves come back as they
  were, other containers as dicts and lists unless `like` is given: see `artifact.load`.

  Args:
    path: a directory that `save` wrote.
    like: a tree of the same names, or its shapes; what was read comes in containers of its
      kinds, and functions, strings and static fields are taken from it.

  Returns:
    (tree, metadata); arrays are on JAX's default device.

  Raises:
    CheckpointError: missing, cut short, or changed; the message names the file. Or `like`
      has another structure; the message names the first path that differs.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> save(path, {"w": np.ones(2, np.float32)})
    >>> load(path)[0]["w"].tolist()
    [1.0, 1.0]
  """
  return replacing.steadily(Path(path).absolute(), lambda found: _load(found, like))


def _load(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
  known = manifest.read(path)
  # Before Orbax: its error for a damaged file is long, and differs by release.
  for problem in damaged_files(path, known):
    raise CheckpointError(problem)
  arrays = _arrays(path / "arrays") if _filled(known) else {}

  def checked(entry: dict[str, Any]) -> Any:
    if 0 in entry["shape"]:
      return restored(entry, np.zeros(entry["shape"], entry["dtype"]))
    problem = manifest.problem_of(entry, arrays, known)
    if problem:
      raise CheckpointError(f"{path / 'arrays'}: {entry['array']} {problem}")
    return restored(entry, orbax_arrays.unpacked(arrays[entry["array"]], entry["dtype"]))

  try:
    tree = rebuild(known["structure"], checked)
    validation.leaves(tree, halves=True)
    return (tree if like is None else fit(tree, like)), known["metadata"]
  except CheckpointError:
    raise
  except ValueError as error:
    raise CheckpointError(f"{path}: {error}") from None


def _filled(known: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns the descriptions of the arrays that have elements: Orbax takes no others."""
  return [entry for entry in array_entries(known["structure"]) if 0 not in entry["shape"]]


def _arrays(path: Path) -> dict[str, Any]:
  try:
    return orbax_arrays.load(path)
  except ValueError as error:
    raise CheckpointError(f"{path}: cannot be read, maybe cut short ({error})") from error


def check(path: str | os.PathLike[str]) -> list[str]:
  """Reads every array and says what is wrong, where `load` would stop at the first.

  Args:
    path: a directory that `save` wrote.

  Returns:
    One line for each array or file that is not as its manifest says; empty if all is well.

  Raises:
    CheckpointError: the manifest itself cannot be read.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> save(path, {"w": np.ones(2, np.float32)})
    >>> check(path)
    []
  """
  return replacing.steadily(Path(path).absolute(), _check, lambda found: not found)


def _check(path: Path) -> list[str]:
  known = manifest.read(path)
  found = list(damaged_files(path, known))
  entries = _filled(known)
  if not entries:
    return found
  try:
    arrays, unread = _read_arrays(path / "arrays")
  except ValueError as error:
    return [*found, f"no array can be read ({error})"]
  for entry in entries:
    name = entry["array"]
    problem = f"cannot be read ({unread[name]})" if name in unread else (
        manifest.problem_of(entry, arrays, known))
    if problem:
      found.append(f"{name} {problem}")
  return found


def _read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
  """Returns the arrays that can be read, and {name: why not} of the others."""
  try:
    return orbax_arrays.load(path), {}
  except ValueError as error:
    try:
      return orbax_arrays.load_each(path)
    except ValueError:
      raise error from None  # the first error says more


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads what a checkpoint holds, without its arrays.

  Args:
    path: a directory that `save` wrote.

  Returns:
    {"format", "structure", "checksums", "files" (sizes in bytes), "metadata"}, and
    "summary" (`leaf_summary.to_json` of every leaf) unless an older version wrote it.

  Raises:
    CheckpointError: missing, cut short, or of another format.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> save(path, {"w": np.ones(2, np.float32)})
    >>> read_manifest(path)["structure"]
    {'dict': {'w': {'array': 'w', 'shape': [2], 'dtype': 'float32'}}}
  """
  return replacing.steadily(Path(path).absolute(), manifest.read)


def overview(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[str]]:
  """Reads the manifest and looks at the files' sizes, without reading the arrays.

  Args:
    path: a directory that `save` wrote.

  Returns:
    What `read_manifest` does, and one line for each file that has not the size it must have.

  Raises:
    CheckpointError: as by `read_manifest`.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> save(path, {"w": np.ones(2, np.float32)}, epoch=3)
    >>> known, damaged = overview(path)
    >>> known["metadata"], damaged
    ({'epoch': 3}, [])
  """
  def read(found: Path) -> tuple[dict[str, Any], list[str]]:
    known = manifest.read(found)
    return known, list(damaged_files(found, known))
  return replacing.steadily(Path(path).absolute(), read, lambda found: not found[1])


def exists(path: str | os.PathLike[str]) -> bool:
  """Returns whether there is a checkpoint for `load`, sound or damaged.

  The path alone does not tell: where a program was killed while one checkpoint took the place
  of another, the old one lies beside it for a moment, and `load` finds it there.

  Args:
    path: a directory that `save` wrote, or will.

  Example:
    >>> import tempfile, numpy as np
    >>> path = tempfile.mkdtemp() + "/step"
    >>> exists(path)
    False
    >>> save(path, {"w": np.ones(2, np.float32)})
    >>> exists(path)
    True
  """
  return replacing.steadily(Path(path).absolute(), replacing.is_there, lambda found: found)

"""The deployable file: everything a fresh process needs to run the model.

`container` frames it, `coding` codes its arrays. The header tells structure and
metadata, and for every array the length of its bytes and a CRC-32 of it decoded;
"keep" names the mask of an array of which only some elements are stored, "base" the
zero points that integers are counted from. No pickle, no code of the file's own.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax.io import coding, containers, files, validation
from compress_jax.io.container import ArtifactError, check_magic, check_size, pack, unpack
from compress_jax.io.like import fit
from compress_jax.io.metadata import plain
from compress_jax.io.payloads import payloads, stored
from compress_jax.io.structure import (
  array_entries,
  describe,
  in_present_names,
  rebuild,
  restored,
)
from compress_jax.leaves import Payload, is_node

__all__ = ["MAX_BYTES", "ArtifactError", "decode", "encode", "load", "payloads", "save", "stored"]

MAX_BYTES = 1 << 33
FLOATS = ("float32", "bfloat16", "float16")

Progress = Callable[[int, int], object]


def save(path: str | os.PathLike[str], params: Any, *, floats: str = "float32",
         **metadata: Any) -> int:
  """Writes the deployed model, all or nothing.

  Args:
    path: the file; replaced once the new one is complete.
    params: any pytree; trainable leaves are frozen first. What is not an array in a model's
      class (functions, strings) is not in the file.
    floats: what float32 arrays are rounded to, "float32" (not at all), "bfloat16" or
      "float16"; scales and codebooks of leaves keep every bit.
    **metadata: JSON-able values (the model's name and arguments, say).

  Returns:
    The file's size in bytes.

  Raises:
    ValueError: something in the tree cannot be stored.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/model.cjx"
    >>> _ = save(path, {"w": jnp.ones(2)}, model="tiny")
    >>> load(path)
    ({'w': Array([1., 1.], dtype=float32)}, {'model': 'tiny'})
  """
  return files.write(path, encode(params, floats=floats, **metadata))


def load(path: str | os.PathLike[str], *, like: Any = None, progress: Progress | None = None,
         max_bytes: int = MAX_BYTES) -> tuple[Any, dict[str, Any]]:
  """Reads a deployed model.

  Dicts (in their own order), OrderedDicts, lists, tuples and leaves come back as they
  were. A file names no other class that could be made: without `like`, other mappings
  (Flax's FrozenDict, NNX's State), namedtuples, dataclasses and modules come back as
  dicts, other sequences as lists, and an `Absent` names the type of what is not in
  the file.

  Args:
    path: a file that `save` wrote.
    like: a tree of the same names, compressed or not, or its shapes from
      `jax.eval_shape`; None for plain containers. What was read comes in containers of
      its kinds; functions, strings and static fields are taken from it.
    progress: is called after every array with the bytes decoded so far and those of all.
    max_bytes: the most that all arrays may take; checked before memory is taken. What leaves
      stand for may be larger: nothing is made dense.

  Returns:
    (params, metadata): what was frozen, to the last bit.

  Raises:
    ArtifactError: the file is not an artifact, cut short, changed, or too large; or `like` has
      another structure, whose first path that differs is named.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/model.cjx"
    >>> _ = save(path, {"w": jnp.ones(2)})
    >>> load(path)[0]["w"].tolist()
    [1.0, 1.0]
  """
  try:
    data = _read(Path(path))
    return decode(data, like=like, progress=progress, max_bytes=max_bytes)
  except ArtifactError as error:
    raise type(error)(f"{path}: {error}") from None


def _read(path: Path) -> bytes:
  """Returns the bytes of a file that begins like an artifact; another one may be of any size."""
  try:
    with path.open("rb") as file:
      start = file.peek(4)[:4]
      # A pipe may give less at first: `decode` looks again.
      if len(start) == 4:
        check_magic(start)
      return file.read()
  except IsADirectoryError:
    raise ArtifactError("a directory; must be a file that `save` wrote") from None


def encode(params: Any, *, floats: str = "float32", **metadata: Any) -> bytes:
  """Returns the bytes that `save` writes.

  Args:
    params: as for `save`.
    floats: as for `save`.
    **metadata: as for `save`.

  Returns:
    The content of the file.

  Raises:
    ValueError: something in the tree cannot be stored.

  Example:
    >>> import numpy as np
    >>> encode({"w": np.zeros(1000, np.float32)})[:4]
    b'CJX2'
  """
  if floats not in FLOATS:
    raise ValueError(f"floats={floats!r}: must be one of {', '.join(FLOATS)}")
  validation.leaves(params)
  params = containers.change(containers.frozen(params),
                              lambda path, x: _rounded(x, floats, path), "params")
  validation.leaves(params)
  structure, described = describe(params)
  everything = payloads(params)
  _check_payloads(everything, described)
  arrays = {name: _as_read(name, everything) for name in everything}
  keep = {name: p.keep for name, p in everything.items() if p.keep is not None}
  base = {name: p.base for name, p in everything.items() if p.base is not None}
  bodies, entries = [], {}
  for name, x in arrays.items():
    present, start = _context(name, x.shape, arrays, keep, base)
    bodies.append(coding.encode(x, present, start))
    entries[name] = [len(bodies[-1]), zlib.crc32(x.tobytes())]
  header = {"structure": structure, "metadata": plain(metadata), "entries": entries, "keep": keep,
            "base": base}
  return pack(header, bodies, sum(x.nbytes for x in arrays.values()))


def _check_payloads(everything: dict[str, Payload], described: dict[str, Any]) -> None:
  """Refuses a leaf whose payload is not what its fields are: no reader could put it together."""
  for name in {**described, **everything}:
    field, payload = described.get(name), everything.get(name)
    if field is None or payload is None:
      raise ValueError(f"{name}: must be both a field and a payload of its leaf")
    x = np.asarray(payload.array)
    if x.dtype.itemsize > 8:
      raise ValueError(f"{name}: {x.dtype}; must be a dtype of at most 8 bytes an element")
    if (x.shape, x.dtype) != (field.shape, field.dtype):
      raise ValueError(f"{name}: the payload is {x.dtype} {x.shape}; must be {field.dtype} "
                       f"{field.shape}, like the field")
    for sibling in (payload.keep, payload.base):
      if sibling is not None and sibling not in everything:
        raise ValueError(f"{name}: its payload names {sibling!r}; must be one of the leaf's own")
    if payload.keep is not None:
      _check_kept(name, x, np.asarray(everything[payload.keep].array))


def _check_kept(name: str, x: np.ndarray, kept: np.ndarray) -> None:
  """Refuses numbers where none are stored: they would come back as zeros."""
  if kept.dtype == bool and kept.shape == x.shape and x[~kept].any():
    raise ValueError(f"{name}: its payload keeps some elements, and others are not zero; they "
                     "must be zero")


def _as_read(name: str, everything: dict[str, Payload]) -> np.ndarray:
  """Returns an array as it is in the file: what is not stored comes back as zeros without a sign.

  A weight times its mask has zeros with one.
  """
  x, keep = np.asarray(everything[name].array), everything[name].keep
  if keep is None:
    return x
  kept = np.asarray(everything[keep].array)
  fits = kept.dtype == bool and kept.shape == x.shape  # or else `_context` says what is wrong
  return np.where(kept, x, np.zeros((), x.dtype)) if fits else x


def decode(data: bytes, *, like: Any = None, progress: Progress | None = None,
           max_bytes: int = MAX_BYTES) -> tuple[Any, dict[str, Any]]:
  """Returns (params, metadata) of the bytes of an artifact.

  Args:
    data: what `encode` returned.
    like: as for `load`.
    progress: as for `load`.
    max_bytes: as for `load`.

  Returns:
    The frozen tree and the metadata.

  Raises:
    ArtifactError: the bytes are no artifact, cut short, changed, or too large; or `like` has
      another structure.

  Example:
    >>> import numpy as np
    >>> decode(encode({"w": np.zeros(1)}, epoch=3))[1]
    {'epoch': 3}
  """
  header, body = unpack(data)
  with _refused():
    structure = in_present_names(header["structure"])
    entries = {e["array"]: e for e in array_entries(structure)}
    total = sum(validation.array_bytes(e) for e in entries.values())
    check_size(total, len(data), max_bytes)
    bodies = _cut(header["entries"], body)
    linked = set(header["keep"]) | set(header["base"])
    # Masks and zero points come before what they belong to.
    order = sorted(entries, key=lambda name: name in linked)
  arrays: dict[str, np.ndarray] = {}
  for name in order:
    with _refused():
      arrays[name] = _decode_array(bodies[name], entries[name], header, arrays)
    if progress:
      progress(sum(x.nbytes for x in arrays.values()), total)
  with _refused():
    params = rebuild(structure, lambda e: restored(e, arrays[e["array"]]))
    validation.check(params, structure)
    metadata = dict(header["metadata"])
  if like is not None:
    params = _fitted(params, like)
  return params, metadata


def _fitted(params: Any, like: Any) -> Any:
  try:
    return fit(params, like)
  except ValueError as error:
    raise ArtifactError(str(error)) from None


@contextlib.contextmanager
def _refused() -> Iterator[None]:
  """Makes an ArtifactError of whatever a hostile file makes the code inside raise."""
  try:
    yield
  except ArtifactError:
    raise
  except Exception as error:
    raise ArtifactError(f"not what its header says ({type(error).__name__}: "
                        f"{str(error)[:400]})") from error


def _cut(entries: dict[str, list[int]], body: bytes) -> dict[str, bytes]:
  """Returns every array's bytes; behind them there may only be zeros."""
  out, start = {}, 0
  for name, (length, _) in entries.items():
    if type(length) is not int or not 0 <= length <= len(body) - start:
      raise ArtifactError(f"{name}: {length} bytes; there are {len(body) - start}")
    out[name] = body[start:start + length]
    start += length
  if body[start:].strip(b"\0"):
    raise ArtifactError(f"the body has {len(body)} bytes; the header says {start}")
  return out


def _decode_array(data: bytes, entry: dict[str, Any], header: dict[str, Any],
                  arrays: dict[str, np.ndarray]) -> np.ndarray:
  name, shape = entry["array"], tuple(entry["shape"])
  present, base = _context(name, shape, arrays, header["keep"], header["base"])
  try:
    out = coding.decode(data, shape, entry["dtype"], present, base)
  except coding.CodingError as error:
    raise ArtifactError(f"{name}: {error}") from None
  if zlib.crc32(out.tobytes()) != header["entries"][name][1]:
    raise ArtifactError(f"{name} fails its checksum")
  return out


def _context(name: str, shape: tuple[int, ...], arrays: dict[str, np.ndarray],
             keep: dict[str, str], base: dict[str, str]) -> tuple[Any, Any]:
  """Returns which elements of an array are stored (bool), and what they are counted from."""
  present = arrays[keep[name]] if name in keep else None
  if present is not None and (present.dtype != bool or present.shape != shape):
    raise ArtifactError(f"{name}: {keep[name]} is {present.dtype} {present.shape}; "
                        f"must be bool {shape}")
  return present, _spread(arrays[base[name]], shape) if name in base else None


def _spread(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns integers laid over a shape, like `leaves.grid.spread`."""
  if x.dtype.kind not in "iu":
    raise ArtifactError(f"zero points are {x.dtype}; must be integers")
  if x.ndim == len(shape):
    for axis, (count, size) in enumerate(zip(x.shape, shape, strict=True)):
      if 1 < count < size:
        x = np.repeat(x, size // count, axis)
  return np.broadcast_to(x, shape)


def _rounded(x: Any, floats: str, path: str) -> Any:
  """Returns a node or array with its float32 arrays rounded, dtypes as they were."""
  if floats == "float32" or x is None:
    return x
  if not is_node(x):
    return _rounded_array(x, floats, path)
  # What integers stand for keeps every bit: the leaf says which fields that are.
  changed = {name: _rounded(value, floats, f"{path}/{name}")
             for name, value in x.fields().items() if name not in x.exact}
  return x.replace(**changed)


def _rounded_array(x: Any, floats: str, path: str) -> Any:
  values = containers.plain(x)
  if values is None or values.dtype != np.float32:
    return x
  values = np.asarray(values)
  with np.errstate(over="ignore"):
    out = values.astype(jnp.dtype(floats)).astype(np.float32)
  if (np.isinf(out) & ~np.isinf(values)).any():
    raise ValueError(f"{path}: {np.abs(values).max()} is beyond what {floats} holds; "
                     "must be saved as bfloat16 or float32")
  return out

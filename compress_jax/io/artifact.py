"""The deployable file: everything a fresh process needs to run the model.

`container` frames it, `coding` codes its arrays. The header tells structure and
metadata, and for every array the length of its bytes and a CRC-32 of it decoded;
"keep" names the mask of an array of which only some elements are stored, "base" the
zero points that integers are counted from. No pickle, no code of the file's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax import tree
from compress_jax.io import coding, files, validation
from compress_jax.io.container import ArtifactError, check_size, pack, unpack
from compress_jax.io.structure import describe, on_device, paths, rebuild
from compress_jax.leaves import Node, Payload, is_leaf
from compress_jax.leaves.base import payload_of

__all__ = ["MAX_BYTES", "ArtifactError", "decode", "encode", "load", "payloads", "save", "stored"]

MAX_BYTES = 1 << 33
FLOATS = ("float32", "bfloat16", "float16")
_EXACT = ("scale", "codebook")  # fields of leaves: what integers stand for

Progress = Callable[[int, int], object]


def save(path: str | os.PathLike[str], params: Any, *, floats: str = "float32",
         **metadata: Any) -> int:
  """Writes the deployed model, all or nothing.

  Args:
    path: the file; replaced once the new one is complete.
    params: a parameter tree; trainable leaves are frozen first.
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


def load(path: str | os.PathLike[str], *, progress: Progress | None = None,
         max_bytes: int = MAX_BYTES) -> tuple[Any, dict[str, Any]]:
  """Reads a deployed model.

  Args:
    path: a file that `save` wrote.
    progress: is called after every array with the bytes decoded so far and those of all.
    max_bytes: the most that all arrays may take; checked before memory is taken.

  Returns:
    (params, metadata): what was frozen, to the last bit.

  Raises:
    ArtifactError: the file is no artifact, cut short, changed, or too large.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/model.cjx"
    >>> _ = save(path, {"w": jnp.ones(2)})
    >>> load(path)[0]["w"].tolist()
    [1.0, 1.0]
  """
  try:
    return decode(Path(path).read_bytes(), progress=progress, max_bytes=max_bytes)
  except ArtifactError as error:
    raise ArtifactError(f"{path}: {error}") from None


def payloads(params: Any) -> dict[str, Payload]:
  """Returns everything that has to be stored of a deployed tree, by path.

  Args:
    params: a parameter tree, frozen.

  Returns:
    {path: Payload}, in tree order.

  Example:
    >>> import numpy as np
    >>> list(payloads({"w": np.ones(2)}))
    ['w']
  """
  out = {}
  for path, x in tree.entries(params)[0]:
    x = x if hasattr(x, "dtype") else np.asarray(x)
    # A leaf that is the whole tree has no path of its own.
    out.update(payload_of(x, path) if path or not is_leaf(x) else x.payload())
  return out


def stored(name: str, all_payloads: dict[str, Payload]) -> np.ndarray:
  """Returns the vector of elements that are stored of one payload."""
  payload = all_payloads[name]
  x = np.asarray(payload.array)
  return x.ravel() if payload.keep is None else x[np.asarray(all_payloads[payload.keep].array)]


def encode(params: Any, *, floats: str = "float32", **metadata: Any) -> bytes:
  """Returns the bytes that `save` writes; arguments as there.

  Example:
    >>> import numpy as np
    >>> encode({"w": np.zeros(1000, np.float32)})[:4]
    b'CJX2'
  """
  if floats not in FLOATS:
    raise ValueError(f"floats={floats!r}: may be one of {', '.join(FLOATS)}")
  params = _rounded(tree.freeze(params), floats, "params")
  structure, _ = describe(params)
  everything = payloads(params)
  arrays = {name: np.asarray(p.array) for name, p in everything.items()}
  keep = {name: p.keep for name, p in everything.items() if p.keep is not None}
  base = {name: found for name in arrays if (found := _base(name, everything))}
  bodies = [coding.encode(x, *_context(name, x.shape, arrays, keep, base))
            for name, x in arrays.items()]
  entries = {name: [len(body), zlib.crc32(x.tobytes())]
             for (name, x), body in zip(arrays.items(), bodies, strict=True)}
  header = {"structure": structure, "metadata": metadata, "entries": entries, "keep": keep,
            "base": base}
  return pack(header, bodies, sum(x.nbytes for x in arrays.values()))


def decode(data: bytes, *, progress: Progress | None = None,
           max_bytes: int = MAX_BYTES) -> tuple[Any, dict[str, Any]]:
  """Returns (params, metadata) of the bytes of an artifact.

  Args:
    data: what `encode` returned.
    progress: as for `load`.
    max_bytes: as for `load`.

  Returns:
    The frozen tree and the metadata.

  Raises:
    ArtifactError: the bytes are no artifact, cut short, changed, or too large.

  Example:
    >>> import numpy as np
    >>> decode(encode({"w": np.zeros(1)}, epoch=3))[1]
    {'epoch': 3}
  """
  header, body = unpack(data)
  with _refused():
    entries = {e["array"]: e for e in paths(header["structure"])}
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
    structure = header["structure"]
    params = rebuild(structure, lambda e: on_device(arrays[e["array"]]))
    validation.check(params, structure)
    return params, dict(header["metadata"])


@contextlib.contextmanager
def _refused() -> Iterator[None]:
  """Makes an ArtifactError of whatever a hostile file makes the code inside raise."""
  try:
    yield
  except ArtifactError:
    raise
  except Exception as error:
    raise ArtifactError(f"not what its header says ({type(error).__name__}: "
                        f"{str(error)[:120]})") from error


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
  """Returns which elements of an array are stored, and what they are counted from."""
  present = arrays[keep[name]] if name in keep else None
  if present is not None and (present.dtype != bool or present.shape != shape):
    raise ArtifactError(f"{name}: {keep[name]} is {present.dtype} {present.shape}; "
                        f"must be bool {shape}")
  return present, _spread(arrays[base[name]], shape) if name in base else None


def _base(name: str, everything: dict[str, Payload]) -> str | None:
  """Returns the name of the zero points of an array of integers, None for zero."""
  payload, sibling = everything[name], f"{name.rpartition('/')[0]}/zero_point".lstrip("/")
  if np.ndim(payload.zero) == 0 or sibling not in everything:
    return None
  spread = _spread(np.asarray(everything[sibling].array), np.shape(payload.array))
  return sibling if np.array_equal(spread, np.broadcast_to(payload.zero, spread.shape)) else None


def _spread(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns integers laid over a shape, like `leaves.grid.spread`."""
  if x.dtype.kind not in "iu":
    raise ArtifactError(f"zero points are {x.dtype}; must be integers")
  for axis in range(x.ndim if x.ndim == len(shape) else 0):
    if 1 < x.shape[axis] < shape[axis]:
      x = np.repeat(x, shape[axis] // x.shape[axis], axis)
  return np.broadcast_to(x, shape)


def _rounded(x: Any, floats: str, path: str) -> Any:
  """Returns a tree with its float32 arrays rounded, dtypes as they were."""
  again = lambda items: {k: v if isinstance(x, Node) and k in _EXACT else
                         _rounded(v, floats, f"{path}/{k}") for k, v in items}
  if floats == "float32" or x is None:
    return x
  if isinstance(x, Node):
    return dataclasses.replace(x, **again(x.fields().items()))
  if isinstance(x, dict):
    return again(x.items())
  if isinstance(x, list | tuple):
    return type(x)(again((str(i), v) for i, v in enumerate(x)).values())
  values = np.asarray(x)
  if values.dtype != np.float32:
    return x
  with np.errstate(over="ignore"):
    out = values.astype(jnp.dtype(floats)).astype(np.float32)
  if (np.isinf(out) & ~np.isinf(values)).any():
    raise ValueError(f"{path}: {np.abs(values).max()} is beyond what {floats} holds; "
                     "may be saved as bfloat16 or float32")
  return out

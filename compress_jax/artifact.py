"""The deployable file: everything a fresh process needs to run the model.

Layout: magic, header length (4 bytes, little-endian), header, body. The header
is zlib-compressed JSON: structure, metadata, and for every array its dtype,
shape, bits, mask, length and checksum. The body is the arrays' packed bits, each
zlib-compressed, one after the other.
"""

from __future__ import annotations

import json
import math
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from compress_jax import manifest, packing, tree
from compress_jax.leaves import Payload, is_leaf
from compress_jax.leaves.base import payload_of

MAGIC = b"CJX1"


class ArtifactError(ValueError):
  """A file is no artifact, or a damaged one."""


def save(path: str | os.PathLike[str], params: Any, **metadata: Any) -> int:
  """Writes the deployed model, all or nothing.

  Args:
    path: the file; replaced once the new one is complete.
    params: a parameter tree; trainable leaves are frozen first.
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
  return write(path, encode(params, **metadata))


def write(path: str | os.PathLike[str], data: bytes) -> int:
  """Writes a file, all or nothing.

  Args:
    path: the file; replaced once the new one is complete.
    data: its content.

  Returns:
    The file's size in bytes.

  Example:
    >>> import tempfile
    >>> write(tempfile.mkdtemp() + "/file", b"abc")
    3
  """
  path = Path(path)
  with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
    try:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
      os.chmod(file.name, 0o644)
      os.replace(file.name, path)
    except BaseException:
      os.unlink(file.name)
      raise
  return len(data)


def load(path: str | os.PathLike[str]) -> tuple[Any, dict[str, Any]]:
  """Reads a deployed model.

  Args:
    path: a file that `save` wrote.

  Returns:
    (params, metadata): what was frozen, to the last bit.

  Raises:
    ArtifactError: the file is no artifact, cut short, or changed.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> path = tempfile.mkdtemp() + "/model.cjx"
    >>> _ = save(path, {"w": jnp.ones(2)})
    >>> load(path)[0]["w"].tolist()
    [1.0, 1.0]
  """
  try:
    return decode(Path(path).read_bytes())
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


def encode(params: Any, **metadata: Any) -> bytes:
  """Returns the bytes that `save` writes; arguments as there.

  Example:
    >>> import numpy as np
    >>> encode({"w": np.zeros(1000, np.float32)})[:4]
    b'CJX1'
  """
  params = tree.freeze(params)
  structure, _ = manifest.describe(params)
  everything = payloads(params)
  entries, body = {}, []
  for name, payload in everything.items():
    values = stored(name, everything)
    raw = packing.pack(values, payload.bits)
    body.append(zlib.compress(raw, 9))
    entries[name] = [payload.bits, payload.keep, len(values), len(body[-1]), zlib.crc32(raw)]
  header = zlib.compress(json.dumps({"structure": structure, "metadata": metadata,
                                     "entries": entries}, separators=(",", ":")).encode(), 9)
  return b"".join([MAGIC, struct.pack("<II", len(header), zlib.crc32(header)), header, *body])


def decode(data: bytes) -> tuple[Any, dict[str, Any]]:
  """Returns (params, metadata) of the bytes of an artifact.

  Args:
    data: what `encode` returned.

  Returns:
    The frozen tree and the metadata.

  Raises:
    ArtifactError: the bytes are no artifact, cut short, or changed.

  Example:
    >>> import numpy as np
    >>> decode(encode({"w": np.zeros(1)}, epoch=3))[1]
    {'epoch': 3}
  """
  if data[:4] != MAGIC or len(data) < 12:
    raise ArtifactError(f"starts with {data[:4]!r}; an artifact starts with {MAGIC!r}")
  size, checksum = struct.unpack("<II", data[4:12])
  packed = data[12:12 + size]
  if zlib.crc32(packed) != checksum:
    raise ArtifactError("the header is cut short or fails its checksum")
  try:
    header = json.loads(zlib.decompress(packed))
    arrays = _decode_body(header, data[12 + size:])
    params = manifest.rebuild(header["structure"], lambda e: manifest.on_device(arrays[e["array"]]))
    return params, header["metadata"]
  except ArtifactError:
    raise
  except (KeyError, TypeError, ValueError, zlib.error) as error:
    raise ArtifactError(f"not what its header says ({error})") from error


def _decode_body(header: dict[str, Any], body: bytes) -> dict[str, np.ndarray]:
  described = {e["array"]: e for e in manifest.paths(header["structure"])}
  vectors, start = {}, 0
  for name, (bits, _, count, length, checksum) in header["entries"].items():
    expected = packing.packed_size(count, bits)
    # Never inflate beyond what the header promises.
    raw = zlib.decompressobj().decompress(body[start:start + length], expected + 1)
    if len(raw) != expected or zlib.crc32(raw) != checksum:
      raise ArtifactError(f"{name} is cut short or fails its checksum")
    vectors[name] = packing.unpack(raw, count, bits, described[name]["dtype"])
    start += length
  if start != len(body):
    raise ArtifactError(f"the body has {len(body)} bytes; the header says {start}")
  keeps = {name: entry[1] for name, entry in header["entries"].items()}
  return {name: _laid_out(name, vectors, keeps, described) for name in vectors}


def _laid_out(name: str, vectors: dict[str, np.ndarray], keeps: dict[str, str | None],
              described: dict[str, Any]) -> np.ndarray:
  shape, values = described[name]["shape"], vectors[name]
  if keeps[name] is None:
    if math.prod(shape) != values.size:
      raise ArtifactError(f"{name}: {values.size} elements do not fill {shape}")
    return values.reshape(shape)
  mask = vectors[keeps[name]].astype(bool)
  out = np.zeros(mask.size, values.dtype)
  out[mask] = values
  return out.reshape(shape)

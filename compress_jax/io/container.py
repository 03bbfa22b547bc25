"""The frame of an artifact: magic, version, checksum, header, body.

Layout, numbers little-endian: b"CJX", one byte for the version ("2"), CRC-32 of
everything after it (4 bytes), length of the packed header (4), the header (JSON,
deflated), the body (the arrays' bytes, one after the other), zeros.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

MAGIC, VERSION = b"CJX", b"2"
_START = len(MAGIC + VERSION) + 8  # where the header begins
LARGEST_HEADER = 1 << 24  # bytes, inflated
# A file holds at least one byte for _RATIO bytes of decoded data, beyond the first _FREE:
# what a short file may claim fits any memory. `pack` adds zeros where coding does better.
_RATIO, _FREE = 1 << 12, 1 << 26


class ArtifactError(ValueError):
  """A file is not an artifact, or is damaged."""


class OtherVersionError(ArtifactError):
  """A file was written by a version that writes them otherwise; it need not be damaged."""


def pack(header: dict[str, Any], bodies: list[bytes], decoded: int) -> bytes:
  """Returns the bytes of an artifact.

  Args:
    header: JSON-able.
    bodies: the arrays' bytes.
    decoded: bytes of all arrays when they are decoded.

  Returns:
    The file's content.

  Raises:
    ValueError: the header is larger than a reader takes.

  Example:
    >>> unpack(pack({"a": 1}, [b"xyz"], 3))
    ({'a': 1}, b'xyz')
  """
  text = json.dumps(header, separators=(",", ":")).encode()
  if len(text) > LARGEST_HEADER:
    raise ValueError(f"structure and metadata take {len(text)} bytes; "
                     f"must be at most {LARGEST_HEADER}")
  packed = zlib.compress(text, 9, wbits=-15)
  rest = b"".join([struct.pack("<I", len(packed)), packed, *bodies])
  least = -(-(decoded - _FREE) // _RATIO)  # rounded up
  rest += bytes(max(0, least - len(rest)))
  return MAGIC + VERSION + struct.pack("<I", zlib.crc32(rest)) + rest


def unpack(data: bytes) -> tuple[dict[str, Any], bytes]:
  """Checks the frame and takes it off.

  Args:
    data: what `pack` returned.

  Returns:
    The header, and the body with the zeros behind it.

  Raises:
    ArtifactError: another kind of file or another version, cut short, or changed.
  """
  check_magic(data[:4])
  if len(data) < _START:
    raise ArtifactError("cut short or changed: it fails its checksum")
  checksum, size = struct.unpack("<II", data[4:_START])
  # A view, since a copy of the body would take its memory twice.
  if zlib.crc32(memoryview(data)[8:]) != checksum:
    raise ArtifactError("cut short or changed: it fails its checksum")
  if _START + size > len(data):
    raise ArtifactError(f"a header of {size} bytes; the file has {len(data)}")
  # A checksum keeps nobody from writing a hostile header: it is inflated within limits only.
  try:
    inflater = zlib.decompressobj(wbits=-15)
    text = inflater.decompress(data[_START:_START + size], LARGEST_HEADER)
    header = json.loads(text)
  except (ValueError, RecursionError, zlib.error) as error:
    raise ArtifactError(f"the header cannot be read ({str(error)[:80]})") from None
  if not isinstance(header, dict):
    raise ArtifactError(f"the header is a {type(header).__name__}; must be a dict")
  return header, data[_START + size:]


def check_magic(start: bytes) -> None:
  """Refuses another kind of file by its first bytes.

  Args:
    start: the first four bytes of a file, or all that it has.

  Raises:
    ArtifactError: another kind of file or another version.

  Example:
    >>> check_magic(b"GIF8")
    Traceback (most recent call last):
    compress_jax.io.container.ArtifactError: starts with b'GIF8'; an artifact starts with b'CJX2'
  """
  if start[:3] != MAGIC:
    raise ArtifactError(f"starts with {start!r}; an artifact starts with {MAGIC + VERSION!r}")
  if start[3:] != VERSION:
    if start[3:].isdigit():
      raise OtherVersionError(f"written by another version (format {start[3:].decode()}; this one "
                              f"reads {VERSION.decode()})")
    raise ArtifactError(f"starts with {start!r}; an artifact starts with {MAGIC + VERSION!r}")


def most_bytes(size: int) -> int:
  """Returns the most bytes of arrays that so many stored bytes may stand for.

  Args:
    size: bytes that are stored.

  Example:
    >>> most_bytes(0)
    67108864
  """
  return _FREE + _RATIO * size


def check_size(decoded: int, size: int, max_bytes: int) -> None:
  """Refuses what would exhaust memory, before any is taken.

  Args:
    decoded: bytes that the arrays take when decoded.
    size: of the file, in bytes.
    max_bytes: the most that the caller takes.

  Raises:
    ArtifactError: too many, or more than a file of that size holds.

  Example:
    >>> check_size(1000, 10, max_bytes=500)
    Traceback (most recent call last):
    compress_jax.io.container.ArtifactError: decoded it takes 1000 bytes; max_bytes is 500
  """
  if decoded > max_bytes:
    raise ArtifactError(f"decoded it takes {decoded} bytes; max_bytes is {max_bytes}")
  limit = most_bytes(size)
  if decoded > limit:
    raise ArtifactError(f"decoded it takes {decoded} bytes; a file of {size} holds "
                        f"at most {limit}")

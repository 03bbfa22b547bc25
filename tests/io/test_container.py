"""What the frame of an artifact refuses."""

import struct
import zlib

import pytest

from compress_jax.io import container
from compress_jax.io.container import ArtifactError

DATA = container.pack({"a": 1}, [b"xyz"], 3)


def framed(rest):
  return b"CJX2" + struct.pack("<I", zlib.crc32(rest)) + rest


def deflated(text):
  packed = zlib.compress(text, wbits=-15)
  return framed(struct.pack("<I", len(packed)) + packed)


@pytest.mark.parametrize("data, message", [
    (b"", "starts with b''"), (b"PK\3\4" + DATA, "starts with b'PK"),
    (b"CJX\x12" + DATA[4:], "starts with b'CJX"), (b"CJX", "starts with b'CJX'"),
    (DATA[:-1], "cut short or changed"), (DATA + b"\0", "cut short or changed"),
    (b"CJX2", "cut short"), (framed(struct.pack("<I", 99)), "a header of 99 bytes"),
    (deflated(b"[" * 100000), "cannot be read"), (deflated(b"{"), "cannot be read"),
    (deflated(b"[1]"), "the header is a list"), (deflated(b"\xff"), "cannot be read"),
    (deflated(bytes(2 * container.LARGEST_HEADER)), "cannot be read"),
    (framed(struct.pack("<I", 2) + b"\xff\xff"), "cannot be read")])
def test_other_files_are_refused(data, message):
  with pytest.raises(ArtifactError, match=message):
    container.unpack(data)


def test_another_version_is_no_damage():
  with pytest.raises(container.OtherVersionError,
                     match=r"by another version \(format 3; this one reads 2\)"):
    container.unpack(b"CJX3" + DATA[4:])


def test_a_long_header_is_refused_when_written():
  with pytest.raises(ValueError, match="must be at most"):
    container.pack({"a": "x" * container.LARGEST_HEADER}, [], 0)


def test_what_is_written_passes_the_check_of_sizes():
  for decoded in (0, 10**8, 10**10):
    container.check_size(decoded, len(container.pack({}, [], decoded)), decoded)
  with pytest.raises(ArtifactError, match="a file of 100 holds at most"):
    container.check_size(10**8, 100, 10**9)

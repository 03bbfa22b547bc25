"""What a checkpoint says of itself: its structure, and checksums and sizes of what it holds."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compress_jax.io import files, orbax_arrays
from compress_jax.io.structure import array_entries, in_present_names

FORMAT = 1


class CheckpointError(ValueError):
  """A checkpoint is missing, cut short, or not what its manifest says."""


class OtherVersionError(CheckpointError):
  """A version that writes checkpoints otherwise wrote this one; it need not be damaged."""


def write(folder: Path, known: Mapping[str, Any]) -> None:
  """Writes the manifest of a checkpoint whose arrays are there.

  Args:
    folder: of the checkpoint.
    known: {"structure", "checksums", "summary", "metadata"}.
  """
  said = {"format": FORMAT, **known, "files": _file_sizes(folder / "arrays")}
  said["checksum"] = _checksum(said)
  files.write(folder / "manifest.json", json.dumps(said))


def read(folder: Path) -> dict[str, Any]:
  """Reads the manifest that is in a folder; see `checkpoint.read_manifest`.

  Args:
    folder: of the checkpoint.

  Returns:
    What `checkpoint.read_manifest` does.

  Raises:
    CheckpointError: missing or cut short; `OtherVersionError` where another version wrote it.
  """
  file = folder / "manifest.json"
  try:
    known = json.loads(file.read_text())
    if known["format"] != FORMAT:
      raise OtherVersionError(f"{file}: {other_version(known['format'], FORMAT)}")
    # Before version 0.6 there was none.
    if known.pop("checksum", None) not in (None, _checksum(known)):
      raise CheckpointError(f"{file}: fails its checksum")
    structure = in_present_names(known["structure"])
    array_entries(structure)  # raises where it is none
    return {**known, "structure": structure, "checksums": dict(known["checksums"]),
            "files": dict(known["files"])}
  except CheckpointError:
    raise
  except FileNotFoundError:
    raise CheckpointError(f"{file}: is missing") from None
  except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
    raise CheckpointError(f"{file}: cannot be read, maybe cut short ({error})") from None


def other_version(written: Any, read: int) -> str:
  """Returns what is said of a file that another version wrote.

  Args:
    written: the format that it has.
    read: the one that this version reads.

  Example:
    >>> other_version(2, 1)
    'written by another version (format 2; this one reads 1)'
  """
  return f"written by another version (format {written}; this one reads {read})"


def damaged_files(path: Path, known: dict[str, Any]) -> Iterator[str]:
  """Yields what is wrong with the files' sizes, without reading them.

  Args:
    path: the checkpoint.
    known: from `checkpoint.read_manifest`.

  Yields:
    One line for each file.
  """
  for name, size in known["files"].items():
    file = path / "arrays" / name
    if not file.is_file():
      yield f"{file}: is missing; it must have {size} bytes"
    elif file.stat().st_size != size:
      yield f"{file}: has {file.stat().st_size} bytes; it must have {size} bytes"


def problem_of(entry: Mapping[str, Any], arrays: Mapping[str, Any],
               known: Mapping[str, Any]) -> str:
  """Returns what is wrong with an array that was read, or "".

  Args:
    entry: its description in the structure.
    arrays: {name: what was read}.
    known: from `read`.
  """
  x = arrays.get(entry["array"])
  if x is not None:
    x = orbax_arrays.unpacked(x, entry["dtype"])
  if x is None or list(x.shape) != entry["shape"] or np.dtype(x.dtype).name != entry["dtype"]:
    return "is missing or not as in the manifest"
  # A manifest that was changed may lack the name.
  return "" if checksum(x) == known["checksums"].get(entry["array"]) else "fails its checksum"


def _file_sizes(directory: Path) -> dict[str, int]:
  return {str(p.relative_to(directory)): p.stat().st_size for p in sorted(directory.rglob("*"))
          if p.is_file()}


def _checksum(said: Any) -> int:
  """Returns a checksum of a manifest, however its file is laid out."""
  return zlib.crc32(json.dumps(said, sort_keys=True).encode())


def checksum(x: Any) -> int:
  """Returns the checksum of an array's bytes.

  Args:
    x: the array.

  Example:
    >>> checksum(np.zeros(1, np.int8))
    3523407757
  """
  return zlib.crc32(np.ascontiguousarray(x).tobytes())

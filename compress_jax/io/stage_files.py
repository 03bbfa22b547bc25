"""The files that a complete stage leaves, and whether they are as it left them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress_jax.io import artifact, checkpoint, files, manifest

COMPLETE = "complete.json"
FORMAT = 1

# Read by people and by the stage itself, and no result; a log may grow, and studies note failures.
_EXEMPT = {COMPLETE, "lock", "failed.json", "log.txt"}


def seal(directory: Path) -> None:
  """Marks a stage complete: writes the checksums of what it leaves.

  Args:
    directory: the stage's; everything else is written.
  """
  left = [path for path in directory.iterdir() if path.is_file() and path.name not in _EXEMPT]
  left.append(directory / "checkpoint" / "manifest.json")
  known = {path.relative_to(directory).as_posix(): _entry(path) for path in sorted(left)}
  files.write_json(directory / COMPLETE, {
      "format": FORMAT, "files": known, "sha256": _digest(known)})


def _entry(path: Path) -> dict[str, Any]:
  content = path.read_bytes()
  return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _digest(known: Any) -> str:
  """Returns the checksum of the checksums, or a digit changed there would blame another file."""
  return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def is_complete(directory: Path) -> bool:
  """Returns whether a stage is marked complete.

  Args:
    directory: a stage's, which need not be there.
  """
  if (directory / COMPLETE).exists():
    return True
  # Until version 0.3 the metrics, which were written last, were the mark.
  return (directory / "metrics.json").exists() and not _marks_itself(directory)


def _marks_itself(directory: Path) -> bool:
  """Returns whether a version ran the stage that marks it by `complete.json`."""
  try:
    return "marked_by" in json.loads((directory / "stage.json").read_text())
  except (OSError, ValueError, TypeError):
    return False


def other_version(directory: Path) -> str:
  """Returns what is said of a stage that another version wrote, or "".

  Args:
    directory: the stage's; "" also of one whose mark cannot be read.
  """
  mark = directory / COMPLETE
  try:
    written = json.loads(mark.read_text())["format"]
  except (OSError, ValueError, TypeError, KeyError, RecursionError):
    return ""
  return f"{mark}: {manifest.other_version(written, FORMAT)}" if written != FORMAT else ""


def damaged(directory: Path, *, contents: bool = True) -> Iterator[str]:
  """Yields what is wrong with the files of a complete stage; arrays are not read.

  Args:
    directory: the stage's.
    contents: whether files that are not JSON are read, and not only measured.

  Yields:
    One line for each file, which begins with its path.
  """
  sound = True
  for problem in _of_files(directory, contents):
    sound = False
    yield problem
  # A damaged file tells nothing of which model this one was made from.
  if sound:
    yield from of_another_parent(directory)


def _of_files(directory: Path, contents: bool) -> Iterator[str]:
  sealed = (directory / COMPLETE).exists()
  for name in ("stage.json", "metrics.json"):
    # `changed` tells of a missing file where there is a list of files.
    if (directory / name).exists() or not sealed:
      yield from _unreadable(directory / name)
  yield from changed(directory, contents=contents)
  yield from _cut_arrays(directory / "checkpoint")


def model_of(directory: Path) -> str:
  """Returns a digest of the model in a stage, the same for the same bits; "" where there is none.

  Args:
    directory: the stage's.
  """
  try:
    known = checkpoint.read_manifest(directory / "checkpoint")
  except checkpoint.CheckpointError:
    return ""
  return _digest([known["structure"], known["checksums"]])


def parent_of(directory: Path) -> tuple[str, str]:
  """Returns what a stage was made from: a directory's name, and `model_of` it at that time.

  Args:
    directory: the stage's; what it does not say is "".
  """
  try:
    said = json.loads((directory / "stage.json").read_text())
    return said["parent"] or "", said["parent_model"]
  except (OSError, ValueError, TypeError, KeyError):
    return "", ""


def of_another_parent(directory: Path) -> Iterator[str]:
  """Yields a line where the stage that a stage starts from was made again, and is not the same.

  Args:
    directory: the stage's, of which no file is damaged.
  """
  parent, model = parent_of(directory)
  if not model:
    return
  # A damaged file there tells nothing of which model it holds.
  if any(changed(directory.parent / parent, contents=False)):
    return
  now = model_of(directory.parent / parent)
  if now and now != model:
    yield f"{directory}: was made from another {parent} than there is now"


def _unreadable(file: Path) -> Iterator[str]:
  try:
    found = json.loads(file.read_text())
  except (OSError, ValueError) as error:
    yield f"{file}: cannot be read, maybe cut short ({error})"
    return
  if not isinstance(found, dict):
    yield f"{file}: holds a {type(found).__name__}, not an object"


def changed(directory: Path, *, contents: bool = True) -> Iterator[str]:
  """Yields which files of a stage are not as `complete.json` says.

  Args:
    directory: the stage's.
    contents: see `damaged`.

  Yields:
    One line for each file, which begins with its path; nothing of a stage that has no such
    file, because version 0.3 ran it or because it is not complete.
  """
  mark = directory / COMPLETE
  if not mark.exists():
    return
  other = other_version(directory)
  if other:
    yield other
    return
  try:
    known = json.loads(mark.read_text())
    intact = known["sha256"] == _digest(known["files"])
  except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
    yield f"{mark}: cannot be read, maybe cut short ({error})"
    return
  if not intact:
    yield f"{mark}: fails its own checksum"
    return
  for name, entry in known["files"].items():
    yield from _changed(directory / name, entry, contents or name.endswith(".json"))


def _changed(file: Path, entry: dict[str, Any], contents: bool) -> Iterator[str]:
  if not file.is_file():
    yield f"{file}: is missing"
  elif file.stat().st_size != entry["bytes"]:
    yield f"{file}: has {file.stat().st_size} bytes; it must have {entry['bytes']} bytes"
  elif contents and _entry(file) != entry:
    yield f"{file}: fails its checksum; it was changed after the stage was complete"


def _cut_arrays(path: Path) -> Iterator[str]:
  """Yields which files of a checkpoint's arrays do not have their size."""
  try:
    yield from checkpoint.overview(path)[1]
  except checkpoint.CheckpointError as error:
    yield str(error)


def check(directory: Path) -> list[str]:
  """Reads everything that a stage left, arrays too, and says what is wrong.

  Args:
    directory: a stage's, complete or not; of one that is not, what it keeps to go on.

  Returns:
    One line for each problem; empty if all is well.
  """
  if not is_complete(directory):
    kept = {path.parent for path in directory.rglob("manifest.json")}
    # One that is being written, or replaced, has a suffix, and is not used.
    return [problem for path in sorted(kept) if not path.suffix for problem in _arrays(path)]
  found = list(damaged(directory))
  if found:
    return found
  return [*_arrays(directory / "checkpoint"), *_artifacts(directory)]


def _arrays(path: Path) -> list[str]:
  try:
    return [f"{path}: {problem}" for problem in checkpoint.check(path)]
  except checkpoint.CheckpointError as error:
    return [str(error)]


def _artifacts(directory: Path) -> Iterator[str]:
  for file in sorted(directory.glob("*.cjx")):
    try:
      artifact.load(file)
    except artifact.ArtifactError as error:
      yield str(error)

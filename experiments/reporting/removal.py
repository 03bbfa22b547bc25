"""Removes the results of a run, and the stages that no other run of its workdir uses."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from compress_jax.inspect import lineage
from compress_jax.io import files, stage_files
from experiments.reporting import places, runs
from experiments.reporting.runs import Run

# What every study leaves beside its own files. results.json is last: a removal that is
# interrupted can be given again.
_FILES = ("report.html", "tables.md", "inspect", places.MISSING, "results.csv", "results.json")
# What a workdir without stages and results may still have of ours.
_REST = ("compiled", "log.txt", places.LOCK, places.REPORT_LEASE, places.DTYPE)


def remove(folders: Sequence[Path], root: Path) -> Iterator[str]:
  """Removes runs; nothing, unless all of them can be.

  Args:
    folders: of results.
    root: where their names begin.

  Yields:
    Lines that say what was removed, kept and freed.

  Raises:
    ValueError: names a folder that is a link, or a workdir in which a study works now.
  """
  workdirs = {folder: _workdir(folder) for folder in folders}
  with contextlib.ExitStack() as stack:
    # Held until the end: a study that starts meanwhile waits.
    for workdir in dict.fromkeys(workdirs.values()):
      if not stack.enter_context(places.held(workdir, alone=True)):
        raise ValueError(f"--remove: a study works in {workdir} now; nothing was removed")
    freed = 0
    for folder, workdir in workdirs.items():
      taken, lines = _remove(folder.absolute(), workdir)
      freed += taken
      yield from (f"{runs.named(folder, root)}: {line}" for line in lines)
    yield f"freed {freed:,} bytes"


def _workdir(folder: Path) -> Path:
  """Returns the workdir of a folder; an error where a link leads out of it."""
  workdir = runs.workdir_of(folder)
  inside = folder.absolute().relative_to(workdir)
  if folder.resolve() != workdir.resolve() / inside or workdir.is_symlink():
    raise ValueError(f"--remove={str(folder)!r}: is a symbolic link or behind one; it must be "
                     f"the folder itself: {folder.resolve()}")
  return workdir


def _remove(folder: Path, workdir: Path) -> tuple[int, list[str]]:
  """Removes a run and returns the bytes that were freed, and what happened."""
  run = runs.read(folder)
  unused, kept = _stages(run, workdir)
  freed = sum(_remove_stage(workdir / "stages" / name) for name in unused)
  lines = [f"removed {_counted(len(unused), 'stage')}: {', '.join(unused)}"] if unused else []
  for name in (*run.files, *_FILES, places.REPORT_LEASE):
    freed += _remove_file(folder, name)
  left = _left(folder)
  freed += _tidy(folder, workdir)
  lines += [*kept, "removed its results"]
  if left:
    lines.append(f"left in {folder}, because nothing says that the run wrote it: "
                 f"{', '.join(left)}")
  return freed, lines


def _stages(run: Run, workdir: Path) -> tuple[list[str], list[str]]:
  """Returns the stages that only this run uses, and which others are kept, and why."""
  folder = workdir / "stages"
  if not folder.is_dir():
    return [], []
  if folder.is_symlink():
    return [], [f"kept all stages: {folder} is a symbolic link"]
  others = [runs.read(other) for other in runs.find(workdir) if other != run.folder]
  for one in (run, *others):
    if one.stages is None and one.has_results:
      return [], [f"kept all stages: {one.folder / 'results.json'} is of an earlier release, "
                  "which didn't note the stages of a run"]
  there = {path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink()}
  own = there & set(run.stages or ())
  needed = own & _with_ancestors(folder, there - own)
  for other in others:
    needed |= own & set(other.stages or ())
  kept = [f"kept {_counted(len(needed), 'stage')} that others use"] if needed else []
  return sorted(own - needed), kept


def _with_ancestors(folder: Path, names: set[str]) -> set[str]:
  """Returns stages and those that they start from."""
  # A study that was interrupted has stages, and no results that would list them.
  found = [lineage.ancestors(lineage.read_stage(folder / name)) for name in names]
  return {stage.id for stages in found for stage in stages}


def _remove_stage(directory: Path) -> int:
  size = files.size(directory)
  # First what marks it complete: half a stage must not be taken for a whole one.
  for name in (stage_files.COMPLETE, "metrics.json"):
    (directory / name).unlink(missing_ok=True)
  shutil.rmtree(directory)
  return size


def _remove_file(folder: Path, name: str) -> int:
  """Removes a file of the results, or the folder of inspections, and returns its bytes."""
  path = folder / name
  # Names come from a file, which may say anything.
  if Path(name).name != name or path.is_symlink() or not path.exists():
    return 0
  size = files.size(path)
  if path.is_file():
    path.unlink()
  elif name in ("inspect", "compiled", places.REPORT_LEASE):
    shutil.rmtree(path)
  else:
    return 0
  return size


def _left(folder: Path) -> list[str]:
  """Returns what is in a folder and belongs neither to a workdir nor to another run."""
  names = []
  for path in sorted(folder.iterdir()):
    holds_runs = path.is_dir() and (path.name == "stages" or runs.find(path))
    if path.name not in _REST and not holds_runs:
      names.append(path.name)
  return names


def _tidy(folder: Path, workdir: Path) -> int:
  """Removes folders that are empty now, and what a workdir keeps only for its runs."""
  above = [folder, *folder.parents]
  for path in above[:above.index(workdir)]:
    _remove_empty(path)
  _remove_empty(workdir / "stages")
  if runs.find(workdir):
    return 0
  freed = sum(_remove_file(workdir, name) for name in _REST)
  _remove_empty(workdir)
  return freed


def _remove_empty(folder: Path) -> None:
  # Not empty, not there, or a link: it stays.
  with contextlib.suppress(OSError):
    folder.rmdir()


def _counted(count: int, noun: str) -> str:
  return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

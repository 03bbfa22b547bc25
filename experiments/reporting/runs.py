"""Runs as they are kept: what results.json, results.csv and missing.txt say, whatever the study."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import settings
from experiments.reporting import places

ROOT = Path("runs")  # where launch.py makes workdirs

# Folders of a workdir that hold no results.
_OTHER = {"stages", "compiled", "inspect"}
# From a results folder up to its workdir: <workdir>/combo/results/<what differs>.
_DEEPEST = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """What one results folder has.

  Attributes:
    folder: where it is.
    rows: of results.csv, numbers as text where results.json is not there.
    config: {path: value} of all fields; None where results.json is not there.
    environment: what it was made with.
    fingerprint: of the images; "" where that is not known.
    missing: a line for each stage that failed or was skipped.
    stages: names of the stages that it used; None where an older release wrote it.
    files: names of the files that its study wrote beside those of every study.
  """

  folder: Path
  rows: Sequence[Mapping[str, Any]] = ()
  config: Mapping[str, Any] | None = None
  environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  fingerprint: str = ""
  missing: Sequence[str] = ()
  stages: Sequence[str] | None = None
  files: Sequence[str] = ()

  @property
  def has_results(self) -> bool:
    """Whether there are results, and not only stages on the way to them."""
    return is_results(self.folder)

  @property
  def study(self) -> str:
    """The study's name, or "" where that is not known."""
    parts = str((self.config or {}).get("study", "")).split(".")
    return parts[-3] if len(parts) > 2 else parts[0]

  @property
  def data(self) -> str:
    """The data set's name, or "" where that is not known."""
    return str((self.config or {}).get("data.name", ""))

  @property
  def given(self) -> str:
    """The configuration and its argument as they were given to launch.py, or ""."""
    words = str(self.environment.get("command", "")).replace("--config ", "--config=").split()
    found = [word.partition("=")[2] for word in words if word.startswith(("--config=", "-config="))]
    return found[-1].removeprefix("configs/") if found else ""

  @property
  def date(self) -> str:
    """When it was reported, to the minute."""
    noted = self.environment.get("date")
    if noted:
      return str(noted)[:16]
    files = [self.folder / name for name in ("results.json", "results.csv")]
    times = [file.stat().st_mtime for file in files if file.exists()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
  """A row of results, mean over its seeds.

  Attributes:
    accuracy: on the test set, 0 to 1.
    nbytes: of the artifact.
    saved: 1 - artifact / dense bytes of the base model; None where the row has none.
  """

  accuracy: float
  nbytes: float
  saved: float | None


def scores(run: Run) -> dict[str, Score]:
  """Returns the rows of a run by name, each the mean over its seeds.

  Args:
    run: any.
  """
  by_name: dict[str, list[Mapping[str, Any]]] = {}
  for row in run.rows:
    by_name.setdefault(_name(row), []).append(row)
  found = {}
  for name, rows in by_name.items():
    accuracy, nbytes = _mean(rows, "test_accuracy"), _mean(rows, "artifact_bytes")
    if accuracy is not None and nbytes is not None:
      # Before 0.6 the grid's reduction was the paper's, of gzip bytes; `saved` was this one.
      saved = _mean(rows, "saved" if "saved" in rows[0] else "reduction")
      found[name] = Score(accuracy=accuracy, nbytes=nbytes, saved=saved)
  return found


def _name(row: Mapping[str, Any]) -> str:
  """Returns a row's name; one without is named by its stage."""
  return str(row.get("combo") or Path(str(row.get("artifact"))).parent.name.rpartition("-")[0])


def _mean(rows: Sequence[Mapping[str, Any]], field: str) -> float | None:
  """Returns the mean of a field, or None where a row doesn't have it."""
  try:
    return sum(float(row[field]) for row in rows) / len(rows)
  except (KeyError, TypeError, ValueError):
    return None


def is_results(folder: Path) -> bool:
  """Returns whether a folder holds results.

  Args:
    folder: any path.
  """
  return any((folder / name).is_file() for name in ("results.json", "results.csv"))


def read(folder: Path) -> Run:
  """Returns what a folder has; what cannot be read is left out.

  Args:
    folder: of results, or a workdir that has none yet.
  """
  known = _json(folder / "results.json")
  rows = known.get("results")
  config = known.get("config")
  missing = folder / places.MISSING
  return Run(
      folder=folder, rows=rows if isinstance(rows, list) else _csv(folder / "results.csv"),
      config=_fields(config) if isinstance(config, dict) else None,
      environment=known.get("environment") or {}, fingerprint=str(known.get("data") or ""),
      missing=missing.read_text().splitlines() if missing.is_file() else (),
      stages=_texts(known.get("stages")), files=_texts(known.get("files")) or ())


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields that a flag can set, by path."""
  return {path: value for path, value in settings.flat(config) if not path.startswith("of_study.")}


def _texts(value: Any) -> list[str] | None:
  """Returns a list of texts as it is, and None for anything else."""
  fits = isinstance(value, list) and all(isinstance(one, str) for one in value)
  return value if fits else None


def _json(file: Path) -> dict[str, Any]:
  try:
    found = json.loads(file.read_text())
  except (OSError, ValueError):
    return {}
  return found if isinstance(found, dict) else {}


def _csv(file: Path) -> list[dict[str, str]]:
  try:
    return list(csv.DictReader(file.read_text().splitlines()))
  except (OSError, ValueError, csv.Error):
    return []


def find(root: Path) -> list[Path]:
  """Returns the folders of results below a folder or in it, and workdirs without any.

  Args:
    root: usually `runs`; links in it are not followed.
  """
  found = []
  for folder, inside, files in os.walk(root):
    path = Path(folder)
    if {"results.json", "results.csv"} & set(files):
      found.append(path)
    elif "stages" in inside and not any(map(is_results, _below(path))):
      found.append(path)  # interrupted, failed, or at work
    inside[:] = sorted(set(inside) - _OTHER)
  return sorted(found)


def _below(workdir: Path) -> Iterator[Path]:
  """Yields the folders in which a workdir can have results."""
  for folder, inside, _ in os.walk(workdir):
    inside[:] = set(inside) - _OTHER
    yield Path(folder)


def workdir_of(folder: Path) -> Path:
  """Returns the workdir that a folder of results is in; itself where there are no stages.

  Args:
    folder: of results.
  """
  absolute = folder.absolute()
  for above in (absolute, *absolute.parents[:_DEEPEST]):
    if (above / "stages").is_dir():
      return above
  return absolute


def named(path: Path, root: Path) -> str:
  """Returns the name of a results folder, as it is listed.

  Args:
    path: the folder.
    root: where it is listed from.
  """
  inside = path.absolute().is_relative_to(root.absolute())
  return path.absolute().relative_to(root.absolute()).as_posix() if inside else str(path)


def chosen(names: str, root: Path, flag: str) -> list[Path]:
  """Returns the results folders that a flag names.

  Args:
    names: with commas between them; a name, which may have commas in it, is one that `--list`
      shows, or a path.
    root: where listed names begin.
    flag: for the message.

  Raises:
    ValueError: names the first that is no results folder.
  """
  found, parts = [], names.split(",")
  while parts:
    # The longest first: a folder's name lists what differs with commas, too.
    for count in range(len(parts), 0, -1):
      path = _path(",".join(parts[:count]), root)
      if path is not None:
        found.append(path)
        del parts[:count]
        break
    else:
      raise ValueError(f"--{flag}={parts[0]!r}: no results are there; it must be a folder with "
                       f"results.json, a path or a name that --list shows below {root}")
  return found


def _path(name: str, root: Path) -> Path | None:
  """Returns the results folder of a name, or None."""
  if not name:
    return None
  return next(filter(is_results, (root / name, Path(name))), None)

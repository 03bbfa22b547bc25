"""What a study leaves behind: results.csv, results.json, tables, pictures and a page."""

from __future__ import annotations

import csv
import io
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import compress_jax as cj
from compress_jax.io import files
from experiments import faults
from experiments.reporting import page, paper_tables, terminal
from experiments.training.progress import say

Row = Mapping[str, Any]


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any, *,
          texts: Mapping[str, Callable[[], str]], pictures: Mapping[str, Callable[[Path], None]],
          page_rows: Sequence[Row] | None = None, also: Sequence[str] = ()) -> None:
  """Writes the files that every study leaves behind, and prints its texts.

  Args:
    studies: one per seed.
    rows: of results.csv, one row per stage and seed; see the README for the columns.
    workdir: where the files go.
    config: the study's configuration, kept in results.json.
    texts: {file name: function that returns Markdown}, usually of "tables.md" alone.
    pictures: {file name: function that draws it into a path}. A text or a picture of a
      stage that failed in this run (`faults.NotThere`) is left out, and that is said.
    page_rows: the rows of report.html where they differ from those of results.csv.
    also: names of files that the study itself writes there.
  """
  write_csv(rows, workdir / "results.csv")
  made_with = environment()
  seeds = sorted({row["seed"] for row in rows})
  files.write_json(workdir / "results.json", {
      "results": list(rows), "config": config.to_dict(), "environment": made_with,
      # What may be removed with these results: see `removal`.
      "seeds": seeds, "stages": _stages(studies), "files": [*texts, *pictures, *also]})
  made = _texts(texts, rows, workdir)
  drawn = _pictures(pictures, workdir)
  shown = page_rows or rows
  over = means(shown)
  page.write(shown, over, workdir, seeds=seeds_text(over), config=config.to_dict(),
             environment=made_with, texts=list(made.values()), pictures=drawn)
  for text in made.values():
    terminal.show(text)
  written = ["results.csv", "results.json", *made, *drawn, "report.html"]
  say(f"written to {workdir}: {', '.join(written)}")


def _stages(studies: Sequence[Any]) -> list[str]:
  """Returns the directories of all stages that studies used, those without a row too."""
  used = set()
  for study in studies:
    for name in (*study.done, *study.failed):
      lineage = study.stage(name).lineage()
      used |= {stage.directory(study.workdir).name for stage in lineage}
  return sorted(used)


def _texts(texts: Mapping[str, Callable[[], str]], rows: Sequence[Row],
           workdir: Path) -> dict[str, str]:
  """Writes texts and returns them by name; one that lacks a stage is a plain table instead."""
  made = {}
  for name, text in texts.items():
    try:
      made[name] = text()
    except faults.NotThere as error:
      made[name] = f"{_plain_table(rows)}\nThe study's own tables are left out: no {error}\n"
    files.write(workdir / name, made[name])
  return made


def _pictures(pictures: Mapping[str, Callable[[Path], None]], workdir: Path) -> list[str]:
  """Draws pictures and returns the names of those for which everything is there."""
  drawn = []
  for name, draw in pictures.items():
    try:
      draw(workdir / name)
    except faults.NotThere as error:
      # An older picture would show other results than the table beside it.
      (workdir / name).unlink(missing_ok=True)
      say(f"{name} is left out: no {error}")
      continue
    drawn.append(name)
  return drawn


def _plain_table(rows: Sequence[Row]) -> str:
  table = [["stage", "seed", "test accuracy, %", "file, bytes"]]
  for row in rows:
    table.append([str(row["combo"]), str(row["seed"]), f"{100 * row['test_accuracy']:.2f}",
                  f"{row['artifact_bytes']:,}"])
  return paper_tables.lines(table)


def write_csv(rows: Sequence[Row], path: Path) -> None:
  """Writes a CSV file, all or nothing.

  Args:
    rows: all with the keys of the first, which name the columns.
    path: the file.
  """
  text = io.StringIO(newline="")
  writer = csv.DictWriter(text, fieldnames=list(rows[0]))
  writer.writeheader()
  writer.writerows(rows)
  files.write(path, text.getvalue())


def environment() -> dict[str, Any]:
  """Returns what results are made with: date, versions, commit, devices, cores and command."""
  return {"date": time.strftime("%Y-%m-%d %H:%M:%S"),
          "python": platform.python_version(), "jax": jax.__version__,
          "compress_jax": cj.__version__, "commit": _commit(), "platform": platform.platform(),
          "devices": [str(d.device_kind) for d in jax.devices()], "cores": os.cpu_count(),
          "xla_flags": os.environ.get("XLA_FLAGS", ""),
          "command": " ".join(sys.argv)}


def _commit() -> str | None:
  """Returns the commit of the checkout, or None where there is none, or no git."""
  try:
    # Of this file's checkout, wherever the study was started.
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                          cwd=Path(__file__).parent, check=False)
  except OSError:
    return None
  return done.stdout.strip() or None


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Returns one row per combination: the mean of each number over seeds.

  Args:
    rows: one row per combination and seed.

  Returns:
    The means, with "seeds" and the standard deviations of the test and validation
    accuracies, "spread" and "val_spread", which are None for a single seed.
  """
  out = []
  for combo in dict.fromkeys(row["combo"] for row in rows):
    same = [row for row in rows if row["combo"] == combo]
    mean: dict[str, Any] = {}
    # Names, files and remarks have no mean.
    for field, value in same[0].items():
      if isinstance(value, int | float):
        mean[field] = float(np.mean([row[field] for row in same]))
    out.append({**mean, "combo": combo, "spread": _deviation(same, "test_accuracy"),
                "val_spread": _deviation(same, "val_accuracy"), "seeds": len(same)})
  return out


def _deviation(rows: Sequence[Row], field: str) -> float | None:
  if len(rows) < 2:
    return None
  # Of a sample (n - 1): the seeds are a few of many.
  return float(np.std([row[field] for row in rows], ddof=1))


def by_name(rows: Sequence[Row]) -> dict[str, Row]:
  """Returns rows by the name of their combination.

  Args:
    rows: of `means`: one row per combination.

  Returns:
    A dictionary that raises `faults.NotThere` for a name that it lacks.
  """
  return _Rows((row["combo"], row) for row in rows)


class _Rows(dict):
  """Rows by name; asking for one that is not there says which."""

  def __missing__(self, name: str) -> Row:
    raise faults.NotThere(f"results of {name}")


def print_sizes(rows: Sequence[Row]) -> None:
  """Prints the accuracies and sizes of all combinations as a table in the terminal.

  Args:
    rows: of results.csv.
  """
  heading = ["combo", "test accuracy", "validation", "parameters", "non-zero", "nonzero kB",
             "gzip kB", "artifact kB", "reduction"]
  shown = means(rows)
  terminal.print_table(seeds_text(shown), heading, [_size_cells(row) for row in shown])


def _size_cells(row: Row) -> list[str]:
  spread = "" if row["spread"] is None else f" ± {100 * row['spread']:.2f}"
  return [row["combo"], f"{100 * row['test_accuracy']:.2f}{spread} %",
          f"{100 * row['val_accuracy']:.2f} %", f"{row['params']:,.0f}",
          f"{row['nonzero_params']:,.0f}", f"{row['nonzero_bytes'] / 1000:,.1f}",
          f"{row['gzip_bytes'] / 1000:,.1f}", f"{row['artifact_bytes'] / 1000:,.1f}",
          f"{100 * row['reduction']:.2f} %"]


def seeds_text(means: Sequence[Row]) -> str:
  """Returns what a table of results says about its seeds, and which rows have fewer.

  Args:
    means: of `means`, one row or more.

  Example:
    >>> seeds_text([{"combo": "base", "seeds": 1}])
    'a single seed'
    >>> seeds_text([{"combo": "base", "seeds": 3}, {"combo": "q", "seeds": 2}])
    'mean ± standard deviation over 3 seeds (q: 2)'
  """
  most = max(row["seeds"] for row in means)
  if most == 1:
    return "a single seed"
  # A stage that failed for one seed must not pass for a mean over all of them.
  fewer = [f"{row['combo']}: {row['seeds']}" for row in means if row["seeds"] < most]
  text = f"mean ± standard deviation over {most} seeds"
  return f"{text} ({', '.join(fewer)})" if fewer else text

"""What a study leaves behind: results.csv, results.json, tables, pictures and a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress_jax.io import files
from experiments import environment, faults
from experiments.reporting import over_seeds, page, paper_tables, terminal
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
  made_with = environment.of_results()
  otherwise = _made_otherwise(studies, made_with)
  seeds = sorted({row["seed"] for row in rows})
  files.write_json(workdir / "results.json", {
      "results": list(rows), "config": config.to_dict(), "data": studies[0].fingerprint,
      "environment": made_with, "stages_made_otherwise": otherwise,
      # What may be removed with these results: see `removal`.
      "seeds": seeds, "stages": _stages(studies), "files": [*texts, *pictures, *also]})
  made = _texts(texts, rows, workdir)
  drawn = _pictures(pictures, workdir)
  shown = page_rows or rows
  page.write(shown, workdir, config=config.to_dict(),
             environment={**made_with, "stages made otherwise": len(otherwise)},
             texts=list(made.values()), pictures=drawn)
  for text in made.values():
    terminal.show(text)
  written = ["results.csv", "results.json", *made, *drawn, "report.html"]
  if otherwise:
    say(f"{len(otherwise)} stages were made by another commit or JAX, or on other devices, than "
        "wrote this: results.json has them")
  say(f"written to {workdir}: {', '.join(written)}")


def _stages(studies: Sequence[Any]) -> list[str]:
  """Returns the directories of all stages that studies used, those without a row too."""
  used = set()
  for study in studies:
    for name in (*study.done, *study.failed):
      lineage = study.stage(name).lineage()
      used |= {stage.directory(study.workdir).name for stage in lineage}
  return sorted(used)


def _made_otherwise(studies: Sequence[Any], now: Mapping[str, Any]) -> dict[str, Any]:
  """Returns {stage's directory: what it was made with} where that is not what is here now."""
  found = {}
  for study in studies:
    for result in study.done.values():
      made_with = result.metrics.get("made_with", {})
      if any(now[name] != value for name, value in made_with.items()):
        found[result.directory.name] = made_with
  return found


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


def print_sizes(rows: Sequence[Row]) -> None:
  """Prints the accuracies and sizes of all combinations as a table in the terminal.

  Args:
    rows: of results.csv.
  """
  heading = ["combo", "test accuracy", "validation", "parameters", "non-zero", "nonzero kB",
             "gzip kB", "artifact kB", "reduction"]
  shown = over_seeds.means(rows)
  terminal.print_table(over_seeds.text(shown), heading, [_size_cells(row) for row in shown])


def _size_cells(row: Row) -> list[str]:
  spread = "" if row["spread"] is None else f" ± {100 * row['spread']:.2f}"
  return [row["combo"], f"{100 * row['test_accuracy']:.2f}{spread} %",
          f"{100 * row['val_accuracy']:.2f} %", f"{row['params']:,.0f}",
          f"{row['nonzero_params']:,.0f}", f"{row['nonzero_bytes'] / 1000:,.1f}",
          f"{row['gzip_bytes'] / 1000:,.1f}", f"{row['artifact_bytes'] / 1000:,.1f}",
          f"{100 * row['reduction']:.2f} %"]

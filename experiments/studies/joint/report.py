"""The joint training beside the serial pipeline: a table and a picture."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import figures, over_seeds, paper_tables, results

Row = Mapping[str, Any]


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, pareto.png and report.html; prints tables.

  Args:
    studies: one per seed.
    rows: one row per stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  results.print_sizes(rows)
  results.write(studies, rows, workdir, config,
                texts={"tables.md": functools.partial(table, rows)},
                pictures={"pareto.png": functools.partial(figures.pareto, rows)})


def table(rows: Sequence[Row]) -> str:
  """Returns both ways to the same student, as Markdown.

  Args:
    rows: one row per stage and seed.
  """
  cells = [["model", "epochs", "test accuracy, %", "zeros, %", "file, kB", "seconds"]]
  for row in over_seeds.means(rows):
    spread = "" if row["spread"] is None else f" ± {100 * row['spread']:.2f}"
    # Among all parameters, those that are never pruned too.
    zeros = 1 - row["nonzero_params"] / row["params"]
    cells.append([row["combo"], f"{row['epochs']:.0f}", f"{100 * row['test_accuracy']:.2f}{spread}",
                  f"{100 * zeros:.1f}", f"{row['artifact_bytes'] / 1000:,.1f}",
                  f"{row['seconds']:,.0f}"])
  return paper_tables.lines(cells) + (
      "\nSeconds are those of all stages behind a model, its teacher's too; epochs are the "
      "student's alone.\n")

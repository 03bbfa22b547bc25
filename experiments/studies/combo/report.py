"""The combinations beside the paper's numbers, and its Figures 3 to 6 redrawn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import figures, paper_tables, results
from experiments.reporting.paper_tables import VALIDATION, Column

Row = Mapping[str, Any]
_COLUMNS = (VALIDATION, Column("saved, %", "reduction", "saved", scale=100),
            Column("file, kB", "artifact_bytes", "kilobytes", ",.1f", scale=1e-3))


def write(studies: Sequence[Any], rows: Sequence[Row], folder: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, Figures 3 to 6 and report.html; prints tables.

  Figures 3 to 5 are there where the configuration asks for the models in them.

  Args:
    studies: `Combinations`, one per seed.
    rows: one row per combination and seed.
    folder: where the files go.
    config: the study's configuration.
  """
  # The additional models are trained here, where the report first asks for them.
  pictures = {"pareto.png": functools.partial(figures.pareto, rows)}
  more = []
  if config.get("conventional"):
    more = [study.row("conventional") for study in studies]
    pictures |= _students(studies[0])
  if config.get("deltas"):
    pictures["figure5.png"] = functools.partial(deltas, _factorized(studies, config))
  text = (f"Ours on {config.data.name}, the paper's on CIFAR-10.\n\n"
          + tables([*rows, *more]))
  results.print_sizes(rows)
  results.write(rows, folder, config, texts={"tables.md": text}, pictures=pictures)


def _students(study: Any) -> dict[str, Any]:
  """Returns what draws the training of the student, without a teacher and with one."""
  alone, taught = (study.result(name).metrics["history"] for name in ("conventional", "kd"))
  return {
      "figure3.png": functools.partial(figures.curves, alone, "student, trained on the labels"),
      # The loss in training is of labels and teacher, which is another scale.
      "figure4.png": functools.partial(
          figures.curves, taught, "student, distilled",
          losses=("training (labels and teacher)", "validation (labels)"))}


def _factorized(studies: Sequence[Any], config: Any) -> list[Row]:
  """Returns the rows of Figure 5."""
  rows = []
  for study in studies:
    for start in ("lrtf-delta", "kd+lrtf-delta"):
      rows += [study.row(f"{start}{delta}") for delta in config.deltas]
  return rows


def tables(rows: Sequence[Row]) -> str:
  """Returns sections 5 and 3.3 in numbers, ours beside the paper's, as Markdown.

  Args:
    rows: of results.csv, and that of the conventional student if there is one.
  """
  paper, ours = paper_tables.paper("combo"), results.by_name(results.means(rows))
  pairs = []
  for theirs in (*paper["section_5"], *paper["section_3_3"]):
    name = theirs["combo"]
    if name in ours:
      pairs.append((name, ours[name], theirs))
  return paper_tables.markdown(pairs, _COLUMNS, first="combination")


def deltas(rows: Sequence[Row], path: Path) -> None:
  """Draws validation accuracy against Δ, the rank below r_max (Figure 5).

  Args:
    rows: of the factorized models, "lrtf-delta2" and "kd+lrtf-delta2".
    path: a PNG file.
  """
  means = results.means(rows)
  with figures.figure(path) as axes:
    for start, label in (("lrtf-delta", "large model"), ("kd+lrtf-delta", "distilled student")):
      points = [(int(row["combo"].removeprefix(start)), 100 * row["val_accuracy"])
                for row in means if row["combo"].startswith(start)]
      places, accuracy = zip(*sorted(points), strict=True)
      axes.plot(places, accuracy, "o-", label=label)
    axes.set(xlabel="Δ = r_max - rank of every linear layer", ylabel="validation accuracy, %")
    axes.legend()

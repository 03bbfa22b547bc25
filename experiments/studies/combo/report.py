"""The combinations beside the paper's numbers, and its Figures 3 to 6 redrawn."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import about, figures, over_seeds, paper_tables, results
from experiments.reporting.paper_tables import VALIDATION, Column
from experiments.studies.combo import effects, quality

Row = Mapping[str, Any]
# The paper's savings are of non-zero weights at the bits of their type; files are of another model.
_COLUMNS = (VALIDATION, Column("non-zero bytes saved, %", "nonzero_saved", "saved", scale=100),
            Column("file saved, %", "reduction", None, scale=100),
            Column("file, kB", "artifact_bytes", "kilobytes", ",.1f", scale=1e-3,
                   difference=False))


def write(studies: Sequence[Any], rows: Sequence[Row], folder: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, Figures 3 to 6 and report.html; prints tables.

  Figures 3 to 5 are there where the configuration asks for the models in them.

  Args:
    studies: `Combinations`, one per seed.
    rows: one row per combination and seed.
    folder: where the files go.
    config: the study's configuration.
  """
  pictures = {"pareto.png": functools.partial(figures.pareto, rows)}
  if config.get("conventional"):
    pictures["figure3.png"] = functools.partial(
        figures.training, studies[0], "conventional", "student, trained on the labels")
    pictures["figure4.png"] = functools.partial(
        figures.training, studies[0], "kd", "student, distilled", losses=figures.DISTILLED)
  if config.get("deltas"):
    pictures["figure5.png"] = functools.partial(_figure5, studies)
  results.print_sizes(rows)
  results.write(studies, rows, folder, config, texts={
      "tables.md": functools.partial(_text, studies, rows, config)}, pictures=pictures)


def _text(studies: Sequence[Any], rows: Sequence[Row], config: Any) -> str:
  alone = _rows_of(studies, ["conventional"]) if config.get("conventional") else []
  return (f"Ours: {about.title(config.to_dict())}; the paper's: DenseNet on CIFAR-10.\n\n"
          f"{tables([*rows, *alone], same_data=config.data.name == 'cifar10')}"
          f"{effects.text(rows)}{quality.text([*rows, *alone])}")


def _figure5(studies: Sequence[Any], path: Path) -> None:
  deltas(_rows_of(studies, [name for name in studies[0].more if "delta" in name]), path)


def _rows_of(studies: Sequence[Any], names: Sequence[str]) -> list[Row]:
  """Returns the rows of stages of every seed."""
  rows = []
  for study in studies:
    rows += [study.row(name) for name in names]
  return rows


def tables(rows: Sequence[Row], *, same_data: bool) -> str:
  """Returns sections 5 and 3.3 in numbers, ours beside the paper's, as Markdown.

  Args:
    rows: of results.csv, and that of the conventional student if there is one.
    same_data: whether ours are of the paper's data; the difference to other data says nothing.
  """
  paper, ours = paper_tables.paper("combo"), over_seeds.by_name(over_seeds.means(rows))
  pairs = []
  for theirs in (*paper["section_5"], *paper["section_3_3"]):
    name = theirs["combo"]
    if name in ours:
      saved = 1 - ours[name]["nonzero_bytes"] / ours["base"]["dense_bytes"]
      pairs.append((name, {**ours[name], "nonzero_saved": saved}, theirs))
  return paper_tables.markdown(pairs, _COLUMNS, first="combination", same_data=same_data)


def deltas(rows: Sequence[Row], path: Path) -> None:
  """Draws validation accuracy against Δ, the rank below r_max (Figure 5).

  Args:
    rows: of the factorized models, "lrtf-delta2" and "kd+lrtf-delta2".
    path: a PNG file.
  """
  means = over_seeds.means(rows)
  with figures.figure(path) as axes:
    for start, label in (("lrtf-delta", "large model"), ("kd+lrtf-delta", "distilled student")):
      points = [(int(row["combo"].removeprefix(start)), 100 * row["val_accuracy"])
                for row in means if row["combo"].startswith(start)]
      places, accuracy = zip(*sorted(points), strict=True)
      axes.plot(places, accuracy, "o-", label=label)
    axes.set(xlabel="Δ = r_max - rank of every linear layer", ylabel="validation accuracy, %")
    axes.legend()

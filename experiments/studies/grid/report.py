"""The grid's tables beside the paper's, its picture, and the ways to train it compared."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import figures, over_seeds, paper_tables, results, terminal
from experiments.reporting.paper_tables import Column

Row = Mapping[str, Any]

# A model's data in the paper, its table of sizes, and its column of Table III.
_MODELS = {"cnn": ("mnist", "table_1", "cnn"), "alexnet": ("cifar10", "table_2", "alexnet")}
_COLUMNS = (
    Column("accuracy, %", "test_accuracy", "accuracy", scale=100, spread="spread"),
    Column("Δ, points", "delta_accuracy", "delta_accuracy", "+.2f", difference=False),
    Column("gzip, bytes", "gzip_bytes", "bytes", ",.0f", difference=False),
    Column("times smaller", "gzip_reduction", "reduction", difference=False),
    Column("artifact, bytes", "artifact_bytes", None, ",.0f"),
    Column("Q", "quality", "quality", ".4f"))


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, accuracy.png and report.html; prints tables.

  Args:
    studies: one per seed.
    rows: one row per cell and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  named = [{**row, "combo": f"{row['sparsity']:g} at {row['bits']} bits"} for row in rows]
  # Means are floats, bits among them.
  means = [{**row, "bits": round(row["bits"])} for row in over_seeds.means(named)]
  results.write(studies, rows, workdir, config, page_rows=named, also=["ways.csv"],
                texts={"tables.md": functools.partial(
                    markdown, means, config.model.name, same_data=same_data(config))},
                pictures={"accuracy.png": functools.partial(picture, means, config.model.name)})


def paper(model: str, cell: Row) -> dict[str, Any]:
  """Returns what the paper's tables say of a cell, or {}.

  Args:
    model: of the zoo; the paper has "cnn" and "alexnet".
    cell: has "sparsity" and "bits".
  """
  if model not in _MODELS:
    return {}  # the user's choice
  tables = paper_tables.paper("grid")
  _, sizes, qualities = _MODELS[model]
  quality = _same_cell(tables["table_3"], cell).get(qualities)
  return {**_same_cell(tables[sizes], cell), "quality": quality}


def same_data(config: Any) -> bool:
  """Returns whether a study's data are those on which the paper has its model.

  Args:
    config: the study's configuration.
  """
  return _MODELS.get(config.model.name, [""])[0] == config.data.name


def _same_cell(table: Sequence[Row], cell: Row) -> Row:
  for row in table:
    if row["sparsity"] == cell["sparsity"] and row["bits"] == cell["bits"]:
      return row
  return {}


def markdown(means: Sequence[Row], model: str, *, same_data: bool) -> str:
  """Returns the table, ours beside the paper's (Tables I to III).

  Args:
    means: one row per cell, of `over_seeds.means`.
    model: "cnn" or "alexnet".
    same_data: see `paper_tables.markdown`.
  """
  pairs = [(f"{row['sparsity']:g}, {row['bits']} bits", row, paper(model, row)) for row in means]
  return paper_tables.markdown(pairs, _COLUMNS, first="sparsity, precision",
                               same_data=same_data)


def picture(rows: Sequence[Row], model: str, path: Path) -> None:
  """Draws accuracy against sparsity, ours and the paper's, one line per precision.

  Args:
    rows: one row per cell.
    model: "cnn" or "alexnet".
    path: a PNG file.
  """
  with figures.figure(path) as axes:
    for i, bits in enumerate(dict.fromkeys(row["bits"] for row in rows)):
      ours = [row for row in rows if row["bits"] == bits]
      axes.plot([100 * row["sparsity"] for row in ours],
                [100 * row["test_accuracy"] for row in ours], "o-", color=f"C{i}",
                label=f"{bits} bits")
      theirs = [paper(model, row) for row in ours]
      known = [row for row in theirs if "accuracy" in row]
      axes.plot([100 * row["sparsity"] for row in known], [row["accuracy"] for row in known],
                "x--", color=f"C{i}", alpha=0.5, label=f"{bits} bits, paper")
    axes.set(xlabel="pruned, %", ylabel="test accuracy, %")
    axes.legend()


def print_ways(rows: Sequence[Row]) -> None:
  """Prints how the ways to train the cells compare.

  Args:
    rows: one row per way, of `comparison.compare`.
  """
  cells = [[row["way"], str(row["programs"]), str(row["seconds"]),
            f"{row['weights_differ']:.2e}", f"{row['accuracy_differs']:.2e}"] for row in rows]
  terminal.print_table("the same cells, trained in three ways", list(rows[0]), cells)

"""The combinations beside the paper's numbers, and Figure 5 redrawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import paper_tables, report
from experiments.reporting.paper_tables import Column

Row = Mapping[str, Any]
_COLUMNS = (
    Column("validation accuracy, %", "val_accuracy", "accuracy", scale=100, spread="val_spread"),
    Column("saved, %", "reduction", "saved", scale=100),
    Column("file, kB", "artifact_bytes", "kilobytes", ",.1f", scale=1e-3))


def tables(rows: Sequence[Row]) -> str:
  """Returns sections 5 and 3.3 in numbers, ours beside the paper's, as Markdown.

  Args:
    rows: of results.csv, and that of the conventional student if there is one.
  """
  paper, ours = paper_tables.paper("combo"), {r["combo"]: r for r in report.means(rows)}
  known = [r for r in (*paper["section_5"], *paper["section_3_3"]) if r["combo"] in ours]
  return paper_tables.markdown([(r["combo"], ours[r["combo"]], r) for r in known], _COLUMNS,
                             first="combination")


def deltas(rows: Sequence[Row], path: Path) -> None:
  """Draws validation accuracy against Δ, the rank below r_max (Figure 5).

  Args:
    rows: of the models that were factorized and of their factorizations,
      "lrtf-delta2" and "kd+lrtf-delta2".
    path: a PNG file.
  """
  means = report.means(rows)
  with report.figure(path, 1, 1, size=(7, 4.5)) as axes:
    for start, label in (("lrtf-delta", "large model"), ("kd+lrtf-delta", "distilled student")):
      points = [(int(r["combo"].removeprefix(start)), 100 * r["val_accuracy"]) for r in means
                if r["combo"].startswith(start)]
      axes.plot(*zip(*sorted(points), strict=True), "o-", label=label)
    axes.set(xlabel="Δ = r_max - rank of every linear layer", ylabel="validation accuracy, %")
    axes.legend()

"""The tables of the takeaways study beside the paper's, and its Figures 6 and 10."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.reporting import figures, over_seeds, paper_tables, results
from experiments.reporting.paper_tables import ACCURACY, Column
from experiments.studies.takeaways.config import pruned, sparsity, stage_of_round

Row = Mapping[str, Any]

FILE = Column("file, MB", "artifact_bytes", "megabytes", scale=1e-6)
NONZERO = Column("non-zero, MB", "nonzero_bytes", "megabytes", scale=1e-6)
# Beside the paper's column, which counts non-zero weights alone.
OUR_FILE = dataclasses.replace(FILE, paper=None)
TIME = Column("ms per image", "milliseconds", "milliseconds")
THOUSANDS = Column("parameters, K", "nonzero_params", "thousands", ".1f", scale=1e-3)
MILLIONS = Column("parameters, M", "nonzero_params", "millions", scale=1e-6)
TIMES = Column("times smaller", "times", "compression", ".1f")
LATENCY = Column("latency, of the base's", "latency", "latency", ".3f")

# In the paper's order: key, title, columns.
TABLES = (
    ("quantization", "Quantization (section V.A)", (ACCURACY, FILE, TIME)),
    ("takeaway 1", "Takeaway 1: student designs", (ACCURACY, FILE, THOUSANDS, TIME)),
    ("table I", "Table I (takeaway 2): pruning", (ACCURACY, MILLIONS, NONZERO, OUR_FILE)),
    ("takeaway 3", "Takeaways 3 and 4: compression", (TIMES, ACCURACY)),
    ("takeaway 5", "Takeaway 5: parameters", (ACCURACY, MILLIONS)),
    ("takeaway 6", "Takeaway 6: latency", (LATENCY,)),
    ("table II", "Table II (takeaways 7 and 8)", ()),
    ("takeaway 11", "Takeaway 11: an ensemble", (
        ACCURACY, FILE, THOUSANDS, dataclasses.replace(TIME, paper=None))),
    ("table III", "Table III (takeaway 12): combinations; parameters are those not zero", (
        ACCURACY, FILE, THOUSANDS)),
)


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, two pictures and report.html; prints tables.

  Args:
    studies: one per seed.
    rows: one row per stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  means = over_seeds.means(rows)
  results.write(studies, rows, workdir, config,
                texts={"tables.md": functools.partial(tables, means, config)},
                pictures={"figure6.png": functools.partial(figure6, means, config),
                          "figure10.png": functools.partial(figure10, means)})


def tables(means: Sequence[Row], config: Any) -> str:
  """Returns the paper's tables as Markdown, ours beside the paper's numbers.

  Args:
    means: one row per stage, of `over_seeds.means`.
    config: the study's configuration.
  """
  paper, ours = paper_tables.paper("takeaways"), _with_ratios(means)
  seeds = over_seeds.text(means)
  parts = [f"{seeds[0].upper()}{seeds[1:]}; {len(config.pruning.rounds)} rounds of pruning."]
  for key, title, columns in TABLES:
    rows = _found(paper[key], ours, config)
    parts.append(f"### {title}")
    if key == "table II":
      parts.append(table_2(rows, ours, config))
    else:
      parts.append(_table(rows, columns, same_data=config.data.name == "cifar10"))
  return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _with_ratios(means: Sequence[Row]) -> dict[str, Row]:
  """Returns rows by name, with what they are beside the base model's."""
  base = over_seeds.by_name(means)["base"]["milliseconds"]
  ours = []
  for row in means:
    ours.append({**row, "latency": row["milliseconds"] / base,
                 "times": 1 / (1 - row["reduction"])})
  return over_seeds.by_name(ours)


def _found(theirs: Sequence[Row], ours: Mapping[str, Row], config: Any) -> list[tuple[Row, Row]]:
  """Returns the paper's rows with ours; rates and students that were not made are left out."""
  names = [(row, stage(row["stage"], config)) for row in theirs]
  # A rate may be that of a round which was jumped over.
  return [(row, ours[name]) for row, name in names if name in ours]


def stage(name: str, config: Any) -> str:
  """Returns the stage that a row of the paper is about.

  Args:
    name: a stage's, or one with a compression rate: "kd+pruned@0.77".
    config: the study's configuration.

  Returns:
    The name; a rate is the round that comes nearest, which may not have been made.
  """
  return re.sub(r"pruned@([\d.]+)", lambda at: pruned(config, float(at[1])), name)


def _table(rows: Sequence[tuple[Row, Row]], columns: Sequence[Column], same_data: bool) -> str:
  return paper_tables.markdown([(theirs["model"], ours, theirs) for theirs, ours in rows], columns,
                               same_data=same_data)


def table_2(rows: Sequence[tuple[Row, Row]], ours: Mapping[str, Row], config: Any) -> str:
  """Returns Table II: what each technique asks for and which sizes it can reach.

  Args:
    rows: of the paper, with ours.
    ours: all rows.
    config: the study's configuration.
  """
  pruning = [stage_of_round(number) for number in config.pruning.rounds]
  students = [name for name in config.students if name in ours]
  families = (["static"], ["qat"], pruning, students)
  table = [["technique", "trainings", "paper", "seconds after the base's", "files, MB", "paper"]]
  for theirs, row in rows:
    name = row["combo"]
    family = next(names for names in families if name in names)
    table.append([theirs["model"], str(_trainings(name, pruning)), theirs["retraining"],
                  f"{row['seconds'] - ours['base']['seconds']:.0f}",
                  _span([ours[other]["artifact_bytes"] / 1e6 for other in family]),
                  theirs["decrement"]])
  return paper_tables.lines(table)


def _trainings(name: str, pruning: Sequence[str]) -> int:
  """Returns how many trainings a stage takes after the base model's."""
  # Every round of pruning before it is one.
  if name in pruning:
    return pruning.index(name) + 1
  return 0 if name == "static" else 1


def _span(sizes: Sequence[float]) -> str:
  """Returns how many sizes there are, and from which to which.

  Example:
    >>> _span([2.0]), _span([2.0, 1.0])
    ('2.00', '2, 1.00 to 2.00')
  """
  if len(sizes) == 1:
    return f"{sizes[0]:.2f}"
  return f"{len(sizes)}, {min(sizes):.2f} to {max(sizes):.2f}"


def figure6(means: Sequence[Row], config: Any, path: Path) -> None:
  """Draws accuracy against the compression rate of pruning, ours and the paper's.

  Args:
    means: one row per stage, of `over_seeds.means`.
    config: the study's configuration.
    path: a PNG file.
  """
  by_name = over_seeds.by_name(means)
  numbers = [0, *config.pruning.rounds]
  ours = [by_name["base"], *(by_name[stage_of_round(n)] for n in config.pruning.rounds)]
  paper = paper_tables.paper("takeaways")["table I"]
  # A stage of the paper's is "pruned@0.77"; the one without a rate is the base model.
  rates = [float(row["stage"].partition("@")[2] or 0) for row in paper]
  with figures.figure(path) as axes:
    axes.errorbar([100 * sparsity(config, n) for n in numbers],
                  [100 * row["test_accuracy"] for row in ours], _errors(ours), fmt="o-",
                  capsize=3, label="ours")
    axes.plot([100 * rate for rate in rates], [row["accuracy"] for row in paper], "s--",
              label="paper")
    axes.set(xlabel="compression rate, % of the weights pruned", ylabel="test accuracy, %",
             ylim=(0, 100))
    axes.legend(loc="best")


def figure10(means: Sequence[Row], path: Path) -> None:
  """Draws the accuracies of the ensemble, its members and the baseline student as bars.

  Args:
    means: one row per stage, of `over_seeds.means`.
    path: a PNG file.
  """
  by_name = over_seeds.by_name(means)
  paper = [row for row in paper_tables.paper("takeaways")["takeaway 11"]
           if row["stage"] in by_name]
  ours = [by_name[row["stage"]] for row in paper]
  places = np.arange(len(paper))
  with figures.figure(path) as axes:
    _bars(axes, places - 0.2, [100 * row["test_accuracy"] for row in ours], "ours", _errors(ours))
    _bars(axes, places + 0.2, [row["accuracy"] for row in paper], "paper", None)
    axes.set_xticks(places, [row["model"] for row in paper])
    axes.set(ylabel="test accuracy, %", ylim=(0, 100))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def _bars(axes: Any, places: np.ndarray, heights: Sequence[float], label: str,
          errors: Sequence[float] | None) -> None:
  bars = axes.bar(places, heights, 0.38, yerr=errors, capsize=3, label=label, zorder=3)
  axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)


def _errors(rows: Sequence[Row]) -> list[float] | None:
  """Returns deviations over seeds in percent, or None for a single seed."""
  if all(row["spread"] is None for row in rows):
    return None
  # A stage that failed for all seeds but one has no deviation.
  return [100 * (row["spread"] or 0.0) for row in rows]

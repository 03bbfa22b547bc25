"""The tables of the takeaways study beside the paper's, and its Figures 6 and 10."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress_jax.io import files
from experiments.reporting import page as report_page
from experiments.reporting import paper_tables, report
from experiments.reporting.paper_tables import ACCURACY, Column
from experiments.studies.takeaways.config import pruned, sparsity
from experiments.training.progress import say

Row = Mapping[str, Any]

FILE = Column("file, MB", "artifact_bytes", "megabytes", scale=1e-6)
NONZERO = Column("non-zero, MB", "nonzero_bytes", "megabytes", scale=1e-6)
OUR_FILE = dataclasses.replace(FILE, paper=None)
TIME = Column("ms an image", "milliseconds", "milliseconds")
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


def write(rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, figure6.png, figure10.png and report.html.

  Args:
    rows: one a stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  made_with = report.keep(rows, workdir, config)
  means = report.means(rows)
  text = tables(means, config)
  files.write(workdir / "tables.md", text)
  figure6(means, config, workdir / "figure6.png")
  figure10(means, workdir / "figure10.png")
  report_page.write(rows, means, workdir, config=config.to_dict(), environment=made_with)
  say(text + f"written: {workdir / 'results.csv'}, results.json, tables.md, figure6.png, "
      "figure10.png, report.html")


def tables(means: Sequence[Row], config: Any) -> str:
  """Returns the paper's tables as Markdown, ours beside the paper's numbers.

  Args:
    means: a row a stage, of `report.means`.
    config: the study's configuration.
  """
  paper = paper_tables.paper("takeaways")
  base = next(r["milliseconds"] for r in means if r["combo"] == "base")
  ours = {r["combo"]: {**r, "latency": r["milliseconds"] / base,
                       "times": 1 / (1 - r["reduction"])} for r in means}
  seeds = means[0]["seeds"]
  out = [f"{f'Mean of {seeds} seeds' if seeds > 1 else 'A single seed'}; "
         f"{len(config.pruning.rounds)} rounds of pruning."]
  for key, title, columns in TABLES:
    rows = _found(paper[key], ours, config)
    text = table_2(rows, ours, config) if key == "table II" else _table(rows, columns)
    out += [f"### {title}", text]
  return "\n\n".join(part.rstrip() for part in out) + "\n"


def _found(theirs: Sequence[Row], ours: Mapping[str, Row], config: Any) -> list[tuple[Row, Row]]:
  """Returns the paper's rows with ours; rates and students that were not made are left out."""
  names = [(row, stage(row["stage"], config)) for row in theirs]
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


def _table(rows: Sequence[tuple[Row, Row]], columns: Sequence[Column]) -> str:
  return paper_tables.markdown([(theirs["model"], ours, theirs) for theirs, ours in rows], columns)


def table_2(rows: Sequence[tuple[Row, Row]], ours: Mapping[str, Row], config: Any) -> str:
  """Returns Table II: what each technique asks for and which sizes it can reach.

  Args:
    rows: of the paper, with ours.
    ours: all rows.
    config: the study's configuration.
  """
  pruning = [f"pruned{n:02d}" for n in config.pruning.rounds]
  families = (["static"], ["qat"], pruning, [n for n in config.students if n in ours])
  heading = ["technique", "trainings", "paper", "seconds after the base's", "files, MB", "paper"]
  body = []
  for theirs, row in rows:
    name = row["combo"]
    family = next(f for f in families if name in f)
    sizes = sorted(ours[n]["artifact_bytes"] / 1e6 for n in family)
    trainings = pruning.index(name) + 1 if name in pruning else int(name != "static")
    span = f"{len(sizes)}, {sizes[0]:.2f} to {sizes[-1]:.2f}" if sizes[1:] else f"{sizes[0]:.2f}"
    body.append([theirs["model"], str(trainings), theirs["retraining"],
                 f"{row['seconds'] - ours['base']['seconds']:.0f}", span, theirs["decrement"]])
  return paper_tables.lines([heading, *body])


def figure6(means: Sequence[Row], config: Any, path: Path) -> None:
  """Draws accuracy against the compression rate of pruning, ours and the paper's."""
  ours = {r["combo"]: r for r in means}
  rounds = [0, *config.pruning.rounds]
  chosen = [ours["base" if n == 0 else f"pruned{n:02d}"] for n in rounds]
  theirs = [(float(row["stage"].partition("@")[2] or 0), row["accuracy"])
            for row in paper_tables.paper("takeaways")["table I"]]
  with report.figure(path) as axes:
    axes.errorbar([100 * sparsity(config, n) for n in rounds],
                  [100 * r["test_accuracy"] for r in chosen], _errors(chosen), fmt="o-",
                  capsize=3, label="ours")
    axes.plot([100 * rate for rate, _ in theirs], [y for _, y in theirs], "s--", label="paper")
    axes.set(xlabel="compression rate, % of the weights pruned", ylabel="test accuracy, %",
             ylim=(0, 100))
    axes.legend(loc="best")


def figure10(means: Sequence[Row], path: Path) -> None:
  """Draws the accuracies of the ensemble, its members and the baseline student as bars."""
  ours = {r["combo"]: r for r in means}
  paper = [row for row in paper_tables.paper("takeaways")["takeaway 11"]
           if row["stage"] in ours]
  chosen, x = [ours[row["stage"]] for row in paper], np.arange(len(paper))
  with report.figure(path) as axes:
    sets = (("ours", [100 * r["test_accuracy"] for r in chosen], _errors(chosen)),
            ("paper", [row["accuracy"] for row in paper], None))
    for i, (label, heights, errors) in enumerate(sets):
      bars = axes.bar(x + 0.4 * i - 0.2, heights, 0.38, yerr=errors, capsize=3, label=label,
                      zorder=3)
      axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)
    axes.set_xticks(x, [row["model"] for row in paper])
    axes.set(ylabel="test accuracy, %", ylim=(0, 100))
    axes.grid(visible=False, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)


def _errors(rows: Sequence[Row]) -> list[float] | None:
  """Returns deviations over seeds in percent, or None for a single seed."""
  return None if rows[0]["spread"] is None else [100 * r["spread"] for r in rows]

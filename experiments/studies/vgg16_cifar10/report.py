"""The tables of the VGG-16 study beside the paper's, and its Figures 5 and 6."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting import figures, over_seeds, paper_tables, results
from experiments.reporting.paper_tables import ACCURACY, Column

Row = Mapping[str, Any]

_FILE = Column("file, MB", "artifact_bytes", "megabytes", scale=1e-6)
_TIME = Column("ms per image", "milliseconds", "milliseconds")
_TABLES = (("Table 1", "table_1", (ACCURACY, _FILE, _TIME)),
           ("Table 2", "table_2", (ACCURACY, _FILE)),
           ("Section 3.2", "section_3_2", (ACCURACY, _FILE, _TIME)))


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, Figures 5 and 6 and report.html; prints tables.

  Args:
    studies: one per seed.
    rows: one row per stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  means = over_seeds.means(rows)
  results.write(studies, rows, workdir, config,
                texts={"tables.md": functools.partial(
                    tables, means, same_data=config.data.name == "cifar10")},
                pictures={"figure5.png": functools.partial(figure5, means),
                          "figure6.png": functools.partial(figure6, means)})


def tables(means: Sequence[Row], *, same_data: bool) -> str:
  """Returns Tables 1 and 2 and section 3.2, ours beside the paper's; MB are of the files.

  Args:
    means: one row per stage, of `over_seeds.means`.
    same_data: see `paper_tables.markdown`.
  """
  paper, ours = paper_tables.paper("vgg16_cifar10"), over_seeds.by_name(means)
  parts = []
  for title, key, columns in _TABLES:
    pairs = [(theirs["model"], ours[theirs["model"]], theirs) for theirs in paper[key]]
    parts.append(f"### {title}\n\n{paper_tables.markdown(pairs, columns, same_data=same_data)}")
  return "\n".join(parts)


def figure5(means: Sequence[Row], path: Path) -> None:
  """Draws accuracy and file size of the dense, the pruned and the fine-tuned model.

  Args:
    means: one row per stage, of `over_seeds.means`.
    path: a PNG file.
  """
  names = ("base", "pruned", "finetuned")
  by_model = {row["model"]: row for row in paper_tables.paper("vgg16_cifar10")["table_2"]}
  by_name = over_seeds.by_name(means)
  ours, theirs = [by_name[name] for name in names], [by_model[name] for name in names]
  with figures.figure(path, 1, 2, size=(9, 4)) as (left, right):
    _bars(left, names, [100 * row["test_accuracy"] for row in ours],
          [row["accuracy"] for row in theirs])
    left.set_ylabel("test accuracy, %")
    _bars(right, names, [row["artifact_bytes"] / 1e6 for row in ours],
          [row["megabytes"] for row in theirs])
    right.set_ylabel("file, MB")


def _bars(axes: Any, names: Sequence[str], ours: Sequence[float],
          theirs: Sequence[float]) -> None:
  """Draws our values and the paper's as pairs of bars."""
  places = range(len(names))
  axes.bar([x - 0.2 for x in places], ours, 0.4, label="ours")
  axes.bar([x + 0.2 for x in places], theirs, 0.4, label="paper", color="0.7")
  axes.set_xticks(places, names)
  # Above: inside it would lie on a bar.
  axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)


def figure6(means: Sequence[Row], path: Path) -> None:
  """Draws accuracy and file size before fine-tuning against the pruning ratio.

  Args:
    means: one row per stage, of `over_seeds.means`.
    path: a PNG file.
  """
  rows = [row for row in means if row["combo"].startswith("ratio")]
  ratios = [float(row["combo"].removeprefix("ratio")) for row in rows]
  with figures.figure(path) as axes:
    axes.plot(ratios, [100 * row["test_accuracy"] for row in rows], "o-", color="C0")
    axes.set(xlabel="pruning ratio", title="before fine-tuning")
    axes.set_ylabel("test accuracy, %", color="C0")
    # Megabytes are on a scale of their own, at the right.
    other = axes.twinx()
    other.plot(ratios, [row["artifact_bytes"] / 1e6 for row in rows], "s--", color="C1")
    other.set_ylabel("file, MB", color="C1")

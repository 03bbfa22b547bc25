"""The tables of the VGG-16 study beside the paper's, and its Figures 5 and 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress_jax.io import files
from experiments.reporting import page as report_page
from experiments.reporting import paper_tables, report
from experiments.reporting.paper_tables import Column
from experiments.training.progress import say

Row = Mapping[str, Any]


def write(rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, Figures 5 and 6 and report.html.

  Args:
    rows: one a stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  made_with = report.keep(rows, workdir, config)
  means = report.means(rows)
  text = tables(means)
  files.write(workdir / "tables.md", text)
  figure5(means, workdir / "figure5.png")
  figure6(means, workdir / "figure6.png")
  report_page.write(rows, means, workdir, config=config.to_dict(), environment=made_with)
  say(text + f"written: {workdir / 'results.csv'}, results.json, tables.md, figure5.png, "
      "figure6.png, report.html")


_FILE = Column("file, MB", "artifact_bytes", "megabytes", scale=1e-6)
_TIME = Column("ms an image", "milliseconds", "milliseconds")
_TABLES = (("Table 1", "table_1", (paper_tables.ACCURACY, _FILE, _TIME)),
           ("Table 2", "table_2", (paper_tables.ACCURACY, _FILE)),
           ("Section 3.2", "section_3_2", (paper_tables.ACCURACY, _FILE, _TIME)))


def tables(means: Sequence[Row]) -> str:
  """Returns Tables 1 and 2, ours beside the paper's; MB are of the files."""
  paper, ours = paper_tables.paper("vgg16_cifar10"), {r["combo"]: r for r in means}
  made = [f"{title}\n\n" + paper_tables.markdown(
      [(r["model"], ours[r["model"]], r) for r in paper[key]], columns)
      for title, key, columns in _TABLES]
  return "\n".join(made)


def figure5(means: Sequence[Row], path: Path) -> None:
  """Draws accuracy and file size of the dense, the pruned and the fine-tuned model."""
  paper, ours = paper_tables.paper("vgg16_cifar10")["table_2"], {r["combo"]: r for r in means}
  names = ("base", "pruned", "finetuned")
  theirs = {r["model"]: r for r in paper}
  with report.figure(path, 1, 2, size=(9, 4)) as axes:
    drawn = ((axes[0], "test accuracy, %", [100 * ours[n]["test_accuracy"] for n in names],
              [theirs[n]["accuracy"] for n in names]),
             (axes[1], "file, MB", [ours[n]["artifact_bytes"] / 1e6 for n in names],
              [theirs[n]["megabytes"] for n in names]))
    for axis, label, mine, papers in drawn:
      axis.bar([i - 0.2 for i in range(3)], mine, 0.4, label="ours")
      axis.bar([i + 0.2 for i in range(3)], papers, 0.4, label="paper", color="0.7")
      axis.set_xticks(range(3), names)
      axis.set_ylabel(label)
      axis.legend()


def figure6(means: Sequence[Row], path: Path) -> None:
  """Draws accuracy and file size before fine-tuning against the pruning ratio."""
  rows = [r for r in means if r["combo"].startswith("ratio")]
  x = [float(r["combo"].removeprefix("ratio")) for r in rows]
  with report.figure(path) as axes:
    axes.plot(x, [100 * r["test_accuracy"] for r in rows], "o-", color="C0")
    axes.set(xlabel="pruning ratio", title="before fine-tuning")
    axes.set_ylabel("test accuracy, %", color="C0")
    other = axes.twinx()
    other.plot(x, [r["artifact_bytes"] / 1e6 for r in rows], "s--", color="C1")
    other.set_ylabel("file, MB", color="C1")

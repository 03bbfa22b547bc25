"""The tables of the VGG-16 study beside the paper's, and its Figure 6."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import report, report_page
from experiments.progress import say

Row = Mapping[str, Any]
PAPER = Path(__file__).parent / "papers" / "report.json"


def write(rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, figure6.png and report.html.

  Args:
    rows: one a stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  made_with = report.keep(rows, workdir, config)
  means = report.means(rows)
  text = tables(means)
  (workdir / "tables.md").write_text(text)
  figure6(means, workdir / "figure6.png")
  report_page.write(rows, means, workdir, config=config.to_dict(), environment=made_with)
  say(text + f"written: {workdir / 'results.csv'}, results.json, tables.md, figure6.png, "
      "report.html")


def tables(means: Sequence[Row]) -> str:
  """Returns Tables 1 and 2, ours beside the paper's; MB are of the files."""
  paper = json.loads(PAPER.read_text())
  by_name = {r["combo"]: r for r in means}
  out = []
  for title, key in (("Table 1", "table_1"), ("Table 2", "table_2")):
    timed = key == "table_1"
    heading = ["model", "accuracy, %", "paper", "file, MB", "paper"]
    heading += ["ms an image", "paper"] * timed
    lines = [f"{title}", "", "| " + " | ".join(heading) + " |", "|" + "---|" * len(heading)]
    for theirs in paper[key]:
      ours = by_name[theirs["model"]]
      spread = "" if ours["spread"] is None else f" ± {100 * ours['spread']:.2f}"
      cells = [theirs["model"], f"{100 * ours['test_accuracy']:.2f}{spread}",
               f"{theirs['accuracy']:.2f}", f"{ours['artifact_bytes'] / 1e6:.2f}",
               f"{theirs['megabytes']:.2f}"]
      cells += [f"{ours['milliseconds']:.2f}", f"{theirs['milliseconds']:.2f}"] if timed else []
      lines.append("| " + " | ".join(cells) + " |")
    out.append("\n".join(lines))
  return "\n\n".join(out) + "\n"


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

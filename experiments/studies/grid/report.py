"""The grid's tables beside the paper's, its picture, and the ways to train it compared."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from compress_jax.io import files
from experiments.reporting import page as report_page
from experiments.reporting import paper_tables, report
from experiments.reporting.paper_tables import Column
from experiments.studies.grid import training
from experiments.training.progress import say

Row = Mapping[str, Any]
_MODELS = {"cnn": ("table_1", "cnn"), "alexnet": ("table_2", "alexnet")}


def write(rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, accuracy.png and report.html; prints the table.

  Args:
    rows: one a cell and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  made_with = report.keep(rows, workdir, config)
  named = [{**r, "combo": f"{r['sparsity']:g} at {r['bits']} bits"} for r in rows]
  page = [{**r, "reduction": r["saved"]} for r in named]
  report_page.write(page, report.means(page), workdir, config=config.to_dict(),
                    environment=made_with)
  means = [{**r, "bits": round(r["bits"])} for r in report.means(named)]
  text = markdown(means, config.model.name)
  files.write(workdir / "tables.md", text)
  picture(means, config.model.name, workdir / "accuracy.png")
  say(text + f"written: {workdir / 'results.csv'}, results.json, tables.md, accuracy.png, "
      "report.html")


def paper(model: str, cell: Row) -> dict[str, Any]:
  """Returns what the paper's tables say of a cell, or {}."""
  tables = paper_tables.paper("grid")
  sizes, qualities = _MODELS[model]
  same = lambda r: (r["sparsity"], r["bits"]) == (cell["sparsity"], cell["bits"])
  quality = next(filter(same, tables["table_3"]), {})
  return {**next(filter(same, tables[sizes]), {}), "quality": quality.get(qualities)}


_COLUMNS = (
    Column("accuracy, %", "test_accuracy", "accuracy", scale=100, spread="spread"),
    Column("Δ, points", "delta_accuracy", "delta_accuracy", "+.2f", difference=False),
    Column("gzip, bytes", "gzip_bytes", "bytes", ",.0f", difference=False),
    Column("reduction", "reduction", "reduction", difference=False),
    Column("artifact, bytes", "artifact_bytes", None, ",.0f"),
    Column("Q", "quality", "quality", ".4f"))


def markdown(means: Sequence[Row], model: str) -> str:
  """Returns the table, ours beside the paper's (Tables I to III)."""
  return paper_tables.markdown([(f"{r['sparsity']:g}, {r['bits']} bits", r, paper(model, r))
                              for r in means], _COLUMNS, first="sparsity, precision")


def picture(rows: Sequence[Row], model: str, path: Path) -> None:
  """Draws accuracy against sparsity, ours and the paper's, a line a precision."""
  with report.figure(path) as axes:
    for i, bits in enumerate(dict.fromkeys(r["bits"] for r in rows)):
      same = [r for r in rows if r["bits"] == bits]
      x = [100 * r["sparsity"] for r in same]
      axes.plot(x, [100 * r["test_accuracy"] for r in same], "o-", color=f"C{i}",
                label=f"{bits} bits")
      known = [(s, paper(model, r)["accuracy"]) for s, r in zip(x, same, strict=True)
               if "accuracy" in paper(model, r)]
      axes.plot(*zip(*known, strict=True), "x--", color=f"C{i}", alpha=0.5,
                label=f"{bits} bits, paper")
    axes.set(xlabel="pruned, %", ylabel="test accuracy, %")
    axes.legend()


def ways(model: Any, params: Any, grid: Sequence[tuple[float, int]], numbers: Any, data: Any,
         steps: int, accuracy: Callable[[Any], float]) -> list[dict[str, Any]]:
  """Trains the cells in three ways, for half of the steps pruned and half rounded.

  Args:
    model: a zoo model.
    params: dense parameters to start from.
    grid: (sparsity, bits) of every cell.
    numbers: the same as arrays, {"sparsity", "bits"}.
    data: {"images", "labels", "order"}.
    steps: of each cell.
    accuracy: of dense parameters.

  Returns:
    A row a way: {"way", "programs", "seconds", "weights_differ",
    "accuracy_differs"}, the last two at most, from the looped ones.
  """
  plan = training.Plan(prune_steps=steps // 2, round_steps=steps - steps // 2, every=10)
  final = lambda state, i: training.weights(state["params"], grid[i][1])
  one = lambda i: jax.tree.map(lambda x: x[i], numbers)

  def looped() -> tuple[list[Any], int]:
    run = jax.jit(training.program(model, plan))
    out = [run(training.start(params), one(i), data, 0, steps)[0] for i in range(len(grid))]
    return out, run._cache_size()

  def side_by_side() -> tuple[list[Any], int]:
    run = jax.jit(jax.vmap(training.program(model, plan), (0, 0, None, None, None)))
    start = jax.tree.map(lambda x: np.stack([x] * len(grid)), training.start(params))
    state = run(start, numbers, data, 0, steps)[0]
    return [jax.tree.map(lambda x, i=i: x[i], state) for i in range(len(grid))], run._cache_size()

  def separate() -> tuple[list[Any], int]:
    out = []
    for sparsity, bits in grid:  # numbers of the program, not arguments
      run = functools.partial(training.program(model, plan),
                              cell={"sparsity": sparsity, "bits": bits})
      out.append(jax.jit(lambda s, d, run=run: run(state=s, data=d, first=0, last=steps)[0])(
          training.start(params), data))
    return out, len(grid)

  rows, reference = [], None
  for name, way in (("looped", looped), ("vmapped", side_by_side), ("separate", separate)):
    start = time.perf_counter()
    states, programs = jax.block_until_ready(way())
    seconds = time.perf_counter() - start
    made = [final(state, i) for i, state in enumerate(states)]
    scores = np.array([accuracy(p) for p in made])
    reference = reference or (made, scores)
    far = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), made, reference[0])
    rows.append({"way": name, "programs": programs, "seconds": round(seconds, 2),
                 "weights_differ": max(jax.tree.leaves(far)),
                 "accuracy_differs": float(np.abs(scores - reference[1]).max())})
  return rows


def compared(rows: Sequence[Row], workdir: Path) -> None:
  """Writes ways.csv and prints it."""
  report.write_csv(rows, workdir / "ways.csv")
  grid = Table(title="the same cells, trained in three ways")
  for name in rows[0]:
    grid.add_column(name, justify="right")
  for row in rows:
    grid.add_row(*(f"{v:.2e}" if isinstance(v, float) and k != "seconds" else str(v)
                   for k, v in row.items()))
  Console(width=None if sys.stdout.isatty() else 120).print(grid)



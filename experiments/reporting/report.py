"""What a study leaves behind: results.csv, results.json, a picture, a page and a table."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import compress_jax as cj
from compress_jax.io import files
from experiments.reporting import page as report_page
from experiments.training.progress import say

Row = Mapping[str, Any]


def write(rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes the results of a study and prints them.

  Args:
    rows: one a combination and seed; see the README for the columns.
    workdir: where the files go.
    config: the study's configuration, kept in results.json.
  """
  made_with = keep(rows, workdir, config)
  pareto(rows, workdir / "pareto.png")
  report_page.write(rows, means(rows), workdir, config=config.to_dict(), environment=made_with)
  table(rows)
  say(f"written: {workdir / 'results.csv'}, results.json, pareto.png, report.html")


def keep(rows: Sequence[Row], workdir: Path, config: Any) -> dict[str, Any]:
  """Writes results.csv and results.json of any study, and returns the environment."""
  write_csv(rows, workdir / "results.csv")
  made_with = environment()
  files.write_json(workdir / "results.json", {
      "results": list(rows), "config": config.to_dict(), "environment": made_with,
      "seeds": sorted({r["seed"] for r in rows})})
  return made_with


def write_csv(rows: Sequence[Row], path: Path) -> None:
  """Writes a CSV file, all or nothing; the first row names the columns."""
  text = io.StringIO(newline="")
  writer = csv.DictWriter(text, fieldnames=list(rows[0]))
  writer.writeheader()
  writer.writerows(rows)
  files.write(path, text.getvalue())


def environment() -> dict[str, Any]:
  """Returns what the results were made with."""
  return {"python": platform.python_version(), "jax": jax.__version__,
          "compress_jax": cj.__version__, "commit": _commit(), "platform": platform.platform(),
          "devices": [str(d.device_kind) for d in jax.devices()], "cores": os.cpu_count(),
          "command": " ".join(sys.argv)}


def _commit() -> str | None:
  """Returns the commit of the checkout, or None where there is none, or no git."""
  try:
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                          cwd=Path(__file__).parent, check=False)
  except OSError:
    return None
  return done.stdout.strip() or None


def means(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """Returns a row a combination: the mean over seeds, and the accuracies' deviation over them."""
  out = []
  for combo in dict.fromkeys(r["combo"] for r in rows):
    same = [r for r in rows if r["combo"] == combo]
    numbers = {k: float(np.mean([r[k] for r in same])) for k, v in same[0].items()
               if isinstance(v, int | float)}
    spread, val_spread = (float(np.std([r[k] for r in same], ddof=1)) if len(same) > 1 else None
                          for k in ("test_accuracy", "val_accuracy"))
    out.append({**numbers, "combo": combo, "spread": spread, "val_spread": val_spread,
                "seeds": len(same)})
  return out


def table(rows: Sequence[Row]) -> None:
  """Prints the results."""
  shown = means(rows)
  seeds = shown[0]["seeds"]
  title = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "a single seed"
  grid = Table(title=title)
  for column in ("combo", "test accuracy", "validation", "parameters", "non-zero", "nonzero kB",
                 "gzip kB", "artifact kB", "reduction"):
    grid.add_column(column, justify="left" if column == "combo" else "right")
  for r in shown:
    spread = "" if r["spread"] is None else f" ± {100 * r['spread']:.2f}"
    sizes = [f"{r[k] / 1000:,.1f}" for k in ("nonzero_bytes", "gzip_bytes", "artifact_bytes")]
    grid.add_row(r["combo"], f"{100 * r['test_accuracy']:.2f}{spread} %",
                 f"{100 * r['val_accuracy']:.2f} %", f"{r['params']:,.0f}",
                 f"{r['nonzero_params']:,.0f}", *sizes, f"{100 * r['reduction']:.2f} %")
  Console(width=None if sys.stdout.isatty() else 120).print(grid)


def pareto(rows: Sequence[Row], path: Path) -> None:
  """Draws accuracy against percent saved, combinations named (the paper's Figure 6).

  Args:
    rows: of results.csv.
    path: a PNG file.
  """
  shown = means(rows)
  x = np.array([100 * r["reduction"] for r in shown])
  y = np.array([100 * r["test_accuracy"] for r in shown])
  beaten = lambda i: any((x > x[i]) & (y >= y[i]) | (x >= x[i]) & (y > y[i]))
  front = [i for i in range(len(x)) if not beaten(i)]
  colors = ["tab:red" if i in front else "tab:blue" for i in range(len(x))]
  front.sort(key=lambda i: x[i])
  with figure(path, size=(10, 6.5)) as axes:
    axes.scatter(x, y, color=colors, zorder=3)
    axes.plot(x[front], y[front], color="tab:red", lw=1, alpha=0.6, label="Pareto front")
    axes.set(xlabel="saved, % of the base model's dense bytes (file size)",
             ylabel="test accuracy, %")
    axes.margins(0.12)
    axes.legend(loc="lower left")
    _name_points(axes.figure, axes, x, y, [r["combo"] for r in shown])


@contextlib.contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, *,
           size: tuple[float, float] = (7, 4.5)) -> Iterator[Any]:
  """Gives axes to draw on, and writes them, all or nothing.

  Args:
    path: a PNG file.
    rows: of axes.
    columns: of axes.
    size: of the picture, in inches; 120 dots each.

  Yields:
    Matplotlib's axes, or an array of them.
  """
  import matplotlib
  matplotlib.use("Agg")
  from matplotlib import pyplot as plt
  drawn, axes = plt.subplots(rows, columns, figsize=size, dpi=120, layout="constrained")
  for one in np.ravel(axes):
    one.grid(alpha=0.3)
    one.set_axisbelow(True)
  yield axes
  png = io.BytesIO()
  drawn.savefig(png, dpi=drawn.dpi, format="png")
  plt.close(drawn)
  files.write(path, png.getvalue())


def curves(history: Sequence[Row], title: str, path: Path,
           losses: tuple[str, str] = ("training", "validation")) -> None:
  """Draws accuracy and loss of training and validation images by epoch.

  Args:
    history: an epoch each: loss, val_loss, accuracy, val_accuracy.
    title: of the picture.
    path: a PNG file.
    losses: what the two losses are called.
  """
  epochs = range(1, len(history) + 1)
  with figure(path, 1, 2, size=(9, 3.8)) as axes:
    axes[0].figure.suptitle(title)
    for one, field, factor, label, names in (
        (axes[0], "accuracy", 100, "accuracy, %", ("training", "validation")),
        (axes[1], "loss", 1, "loss", losses)):
      for start, name in zip(("", "val_"), names, strict=True):
        one.plot(epochs, [factor * h[start + field] for h in history], "o-", ms=3, label=name)
      one.set(xlabel="epoch", ylabel=label)
      one.xaxis.get_major_locator().set_params(integer=True)
      one.legend()


def _name_points(figure: Any, axes: Any, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
  """Writes each name at the nearest place around its point that is free."""
  figure.canvas.draw()
  points = axes.transData.transform(np.column_stack([x, y]))
  frame = axes.get_window_extent()
  low, high = np.array([frame.x0, frame.y0]), np.array([frame.x1, frame.y1])
  pixels = figure.dpi / 72
  taken = [(p - 5, p + 5) for p in points]
  for i in np.lexsort((x, -y)):
    # 8-point letters are about 5 points wide and 9 high.
    half = np.array([len(names[i]) * 2.6, 5.0]) * pixels
    boxes = [(points[i] + move - half, points[i] + move + half) for move in _moves(half)]
    inside = [b for b in boxes if (b[0] > low).all() and (b[1] < high).all()]
    free = [b for b in inside if not any(_overlap(b, t) for t in taken)]
    box = (free or inside or boxes)[0]
    taken.append(box)
    axes.annotate(names[i], points[i], xytext=(box[0] + box[1]) / 2, fontsize=8, ha="center",
                  va="center", xycoords="figure pixels", textcoords="figure pixels",
                  arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5})


def _overlap(a: Any, b: Any) -> bool:
  return bool((a[0] < b[1]).all() and (b[0] < a[1]).all())


def _moves(half: np.ndarray) -> list[np.ndarray]:
  """Returns moves in pixels from a point to its label's middle, nearest first."""
  angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
  return [np.array([(half[0] + r) * np.cos(a), (half[1] + r) * np.sin(a)])
          for r in range(6, 260, 8) for a in angles]

"""Pictures that several studies have, and the frame of all of them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import compress_jax as cj
from compress_jax.io import files
from experiments.reporting.over_seeds import means

Row = Mapping[str, Any]

# The loss in distillation is of labels and teacher, which is another scale than on validation.
DISTILLED = ("training (labels and teacher)", "validation (labels)")


@contextlib.contextmanager
def figure(path: Path, rows: int = 1, columns: int = 1, *,
           size: tuple[float, float] = (7, 4.5), **options: Any) -> Iterator[Any]:
  """Gives axes to draw on, and writes them as a picture, all or nothing.

  Args:
    path: a PNG file.
    rows: of axes.
    columns: of axes.
    size: width and height of the picture, in inches; 120 dots each.
    **options: of `matplotlib.pyplot.subplots`.

  Yields:
    Matplotlib's axes, or an array of them.
  """
  # Imported late: it is slow to start, and a study that fails early needs no picture.
  import matplotlib
  matplotlib.use("Agg")  # draws without a screen
  from matplotlib import pyplot as plt
  drawn, axes = plt.subplots(rows, columns, figsize=size, dpi=120, layout="constrained",
                             **options)
  for one in np.ravel(axes):
    one.grid(alpha=0.3)
    one.set_axisbelow(True)
  yield axes
  png = io.BytesIO()
  drawn.savefig(png, dpi=drawn.dpi, format="png")
  plt.close(drawn)
  files.write(path, png.getvalue())


def pareto(rows: Sequence[Row], path: Path) -> None:
  """Draws accuracy against percent saved, with the combinations' names.

  Args:
    rows: of results.csv.
    path: a PNG file.

  Source: Figure 6 of "Combinatorics with model compression".
  """
  shown = means(rows)
  saved = np.array([100 * row["reduction"] for row in shown])
  accuracy = np.array([100 * row["test_accuracy"] for row in shown])
  # `cj.search.front` wants costs: what is better when smaller.
  front = cj.search.front(list(zip(-saved, -accuracy, strict=True)))
  colors = ["tab:red" if i in front else "tab:blue" for i in range(len(shown))]
  with figure(path, size=(10, 6.5)) as axes:
    points = axes.scatter(saved, accuracy, color=colors, zorder=3)
    axes.plot(saved[front], accuracy[front], color="tab:red", lw=1, alpha=0.6,
              label="Pareto front")
    axes.set(xlabel="saved, % of the base model's dense bytes (file size)",
             ylabel="test accuracy, %")
    axes.margins(0.12)
    axes.legend(loc="lower left")
    _name_points(axes, points, [row["combo"] for row in shown])


def _name_points(axes: Any, points: Any, names: Sequence[str]) -> None:
  """Writes names beside a scatter's points so that none covers another name or point."""
  # Imported late, as matplotlib is.
  from adjustText import adjust_text
  # Layout comes first: it changes how large a text is beside the distances of points.
  axes.figure.canvas.draw()
  labels = [axes.text(x, y, name, fontsize=8)
            for (x, y), name in zip(points.get_offsets(), names, strict=True)]
  # A limit on steps, not on time: the same picture on every machine.
  adjust_text(labels, ax=axes, objects=points, expand=(1.25, 1.6), min_arrow_len=0, iter_lim=1000,
              arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.5})


def curves(history: Sequence[Row], title: str, path: Path,
           losses: tuple[str, str] = ("training", "validation")) -> None:
  """Draws accuracy and loss of training and validation images by epoch.

  Args:
    history: one row per epoch: loss, val_loss, accuracy, val_accuracy.
    title: of the picture.
    path: a PNG file.
    losses: what the losses of training and of validation are called.
  """
  with figure(path, 1, 2, size=(9, 3.8)) as (left, right):
    left.figure.suptitle(title)
    _by_epoch(left, {"training": [100 * epoch["accuracy"] for epoch in history],
                     "validation": [100 * epoch["val_accuracy"] for epoch in history]})
    left.set_ylabel("accuracy, %")
    _by_epoch(right, {losses[0]: [epoch["loss"] for epoch in history],
                      losses[1]: [epoch["val_loss"] for epoch in history]})
    right.set_ylabel("loss")


def training(study: Any, name: str, title: str, path: Path,
             losses: tuple[str, str] = ("training", "validation")) -> None:
  """Draws `curves` of a stage's training.

  Args:
    study: one seed of a study, which has the stage.
    name: the stage's.
    title: of the picture.
    path: a PNG file.
    losses: what the losses of training and of validation are called.
  """
  curves(study.result(name).metrics["history"], title, path, losses)


def _by_epoch(axes: Any, lines: Mapping[str, Sequence[float]]) -> None:
  for name, values in lines.items():
    axes.plot(range(1, len(values) + 1), values, "o-", ms=3, label=name)
  axes.set_xlabel("epoch")
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.legend()

"""Pictures of a search within limits: the front it saw, and what each layer stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress_jax.search import Table

Row = Mapping[str, Any]
_MARKS = {"uniform": ("s", "tab:blue"), "global": ("D", "tab:purple")}


def _pyplot() -> Any:
  import matplotlib
  matplotlib.use("Agg")
  from matplotlib import pyplot
  return pyplot


def front(rows: Sequence[Row], found: Row, config: Any, path: Path) -> None:
  """Draws accuracy against bytes: every plan seen, the front, what was deployed, the limits.

  Args:
    rows: one seed's.
    found: the search stage's metrics.
    config: the study's.
    path: a PNG file.
  """
  plt = _pyplot()
  figure, axes = plt.subplots(figsize=(9, 5.6), layout="constrained")
  points, images = found["points"], config.search.images
  x = np.array([p["bytes"] for p in points]) / 1000
  y = 100 * np.array([p["score"] for p in points])
  axes.scatter(x, y, s=14, color="0.7", zorder=2,
               label=f"{len(x)} plans seen" + f" (on {images:,} images)" * bool(images))
  at = found["front"]
  axes.plot(x[at], y[at], color="tab:red", lw=1, alpha=0.7, label="front of the search", zorder=2)
  for row in rows:
    _deployed(axes, row)
  _limits(axes, rows, config)
  base, chosen = rows[0], next(r for r in rows if r["chosen"])
  shown = [100 * r["val_accuracy"] for r in rows]
  depth = max(2 * (max(shown) - min(shown)), 3)
  axes.set_ylim(max(0, max(shown) - depth), min(max(shown) + 0.15 * depth, 100.5))
  title = "; ".join(f"{name} {r['artifact_bytes'] / 1000:,.1f} kB, test "
                    f"{100 * r['test_accuracy']:.2f} %" for name, r in
                    (("dense", base), ("chosen", chosen)))
  low = min([*x[y > axes.get_ylim()[0]], *(r["artifact_bytes"] / 1000 for r in rows)])
  axes.set_xlim(0.9 * low, 1.1 * x.max())
  axes.set(xscale="log", xlabel="deployable file, kB (logarithmic)", title=title,
           ylabel="validation accuracy, % (lines up: fine-tuning)")
  ticks = [t for t in (m * 10.0**e for e in range(-1, 6) for m in (1, 2, 5))
           if axes.get_xlim()[0] < t < axes.get_xlim()[1]]
  axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
  axes.minorticks_off()
  axes.grid(alpha=0.3)
  axes.legend(loc="lower right", fontsize=8)
  figure.savefig(path, dpi=110)
  plt.close(figure)


def _deployed(axes: Any, row: Row) -> None:
  """Draws one deployed model."""
  mark, colour = _MARKS.get(row["combo"], ("o", "tab:red"))
  name = f"{row['combo']}: {row['what']}" if row["combo"] in _MARKS else row["combo"]
  name = None if row["combo"].startswith("front") else name
  if row["combo"] == "base":
    mark, colour, name = "P", "black", "dense"
  if row["chosen"]:
    mark, name = "*", f"chosen ({row['combo']})"
  x, y = row["artifact_bytes"] / 1000, 100 * row["val_accuracy"]
  axes.plot([x, x], [100 * row["before_finetuning"], y], color=colour, lw=0.8, alpha=0.6, zorder=2)
  axes.scatter(x, y, marker=mark, color=colour,
               s=220 if row["chosen"] else 45, edgecolor="white", linewidth=0.7, label=name,
               zorder=4 if row["chosen"] else 3)


def _limits(axes: Any, rows: Sequence[Row], config: Any) -> None:
  """Draws the limits on bytes and on accuracy."""
  style = {"color": "tab:green", "ls": "--", "lw": 1.2}
  if config.max_bytes is not None:
    axes.axvline(config.max_bytes / 1000, label=f"max_bytes = {config.max_bytes:,}", **style)
  if config.max_accuracy_drop is not None:
    axes.axhline(100 * (rows[0]["val_accuracy"] - config.max_accuracy_drop),
                 label=f"max_accuracy_drop = {config.max_accuracy_drop:g}",
                 **{**style, "ls": ":"})


def sensitivity(table: Table, path: Path) -> None:
  """Draws the accuracy lost by each layer and choice alone, a panel a rank.

  Args:
    table: of accuracies.
    path: a PNG file.
  """
  plt = _pyplot()
  panels = _panels(table)
  columns = list(dict.fromkeys((c.bits, c.sparsity) for row in table.scores.values() for c in row))
  names, layers = [_column(*c) for c in columns], list(table.scores)
  figure, axes = plt.subplots(len(panels), 1, squeeze=False, layout="constrained", sharex=True,
                              figsize=(max(6, 2.6 + 0.34 * len(columns)),
                                       1.4 + (0.6 + 0.3 * len(layers)) * len(panels)))
  worst = 100 * max(table.base - min(row.values()) for row in table.scores.values())
  for axis, values in zip(axes[:, 0], panels, strict=True):
    grid = np.array([[values.get((layer, *c), np.nan) for c in columns] for layer in layers])
    image = axis.imshow(grid, cmap="magma_r", vmin=0, vmax=min(max(worst, 1), 30), aspect="auto")
    axis.set_yticks(range(len(layers)), [f"{x}{_rank(values, x)}" for x in layers], fontsize=8)
    axis.set_xticks(range(len(columns)), names, rotation=90, fontsize=7)
    axis.set_facecolor("0.9")
  axes[0, 0].set_title("accuracy lost when one layer alone is compressed, points (validation)",
                       fontsize=10)
  figure.colorbar(image, ax=axes[:, 0].tolist(), extend="max", label="points")
  figure.savefig(path, dpi=110)
  plt.close(figure)


def _column(bits: int | None, sparsity: float) -> str:
  return f"{f'{bits} bits' if bits else 'float'}, {100 * sparsity:g} %"


def _panels(table: Table) -> list[dict[Any, float]]:
  """Returns {(layer, bits, sparsity): points lost, layer: rank} of the first, second, … rank."""
  panels: list[dict[Any, Any]] = []
  for layer, row in table.scores.items():
    ranks = list(dict.fromkeys(c.rank for c in row))
    panels += [{} for _ in range(len(ranks) - len(panels))]
    for choice, score in row.items():
      panel = panels[ranks.index(choice.rank)]
      panel[layer] = choice.rank
      panel[(layer, choice.bits, choice.sparsity)] = 100 * (table.base - score)
  return panels


def _rank(values: Mapping[Any, Any], layer: str) -> str:
  return f", rank {values[layer]}" if values.get(layer) else ""

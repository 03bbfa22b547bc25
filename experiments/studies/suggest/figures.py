"""Pictures of a search within limits: the front it saw, and what each layer can stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress_jax.search import Table
from experiments.reporting.figures import figure

Row = Mapping[str, Any]
_UNIFORM = {"uniform": ("s", "tab:blue"), "global": ("D", "tab:purple")}  # mark, color


def front(rows: Sequence[Row], found: Row, config: Any, path: Path) -> None:
  """Draws accuracy against bytes: every plan seen, the front, what was deployed, the limits.

  Args:
    rows: one seed's; the first is the base model's.
    found: the search stage's metrics.
    config: the study's configuration.
    path: a PNG file.
  """
  kilobytes = np.array([point["bytes"] for point in found["points"]]) / 1000
  accuracy = 100 * np.array([point["score"] for point in found["points"]])
  with figure(path, size=(9, 5.6)) as axes:
    axes.scatter(kilobytes, accuracy, s=14, color="0.7", zorder=2,
                 label=_plans(len(kilobytes), config.search.images))
    at = found["front"]
    axes.plot(kilobytes[at], accuracy[at], color="tab:red", lw=1, alpha=0.7,
              label="front of the search", zorder=2)
    for row in rows:
      _deployed(axes, row)
    _limits(axes, rows, config)
    _frame(axes, rows, kilobytes, accuracy)
    axes.set(title=_title(rows), xlabel="deployable file, kB (logarithmic)",
             ylabel="validation accuracy, % (lines up: fine-tuning)")
    axes.legend(loc="lower right", fontsize=8)


def _plans(count: int, images: int) -> str:
  return f"{count} plans seen (on {images:,} images)" if images else f"{count} plans seen"


def _title(rows: Sequence[Row]) -> str:
  chosen = next(row for row in rows if row["chosen"])
  parts = []
  for name, row in (("dense", rows[0]), ("chosen", chosen)):
    parts.append(f"{name} {row['artifact_bytes'] / 1000:,.1f} kB, "
                 f"test {100 * row['test_accuracy']:.2f} %")
  return "; ".join(parts)


def _deployed(axes: Any, row: Row) -> None:
  """Draws one deployed model, and a line up to it from before its fine-tuning."""
  mark, color, name = _look(row)
  size, order = (220, 4) if row["chosen"] else (45, 3)
  x, y = row["artifact_bytes"] / 1000, 100 * row["val_accuracy"]
  axes.plot([x, x], [100 * row["before_finetuning"], y], color=color, lw=0.8, alpha=0.6, zorder=2)
  axes.scatter(x, y, marker=mark, color=color, s=size, edgecolor="white", linewidth=0.7,
               label=name, zorder=order)


def _look(row: Row) -> tuple[str, str, str | None]:
  """Returns the mark, color and name in the legend of a deployed model."""
  combo = row["combo"]
  if combo == "base":
    mark, color, name = "P", "black", "dense"
  elif combo in _UNIFORM:
    mark, color = _UNIFORM[combo]
    name = f"{combo}: {row['what']}"
  else:
    # The points of the front are many and alike; they have no name.
    mark, color, name = "o", "tab:red", None if combo.startswith("front") else combo
  if row["chosen"]:
    mark, name = "*", f"chosen ({combo})"
  return mark, color, name


def _limits(axes: Any, rows: Sequence[Row], config: Any) -> None:
  """Draws the limits on bytes and on accuracy."""
  if config.max_bytes is not None:
    axes.axvline(config.max_bytes / 1000, label=f"max_bytes = {config.max_bytes:,}",
                 color="tab:green", ls="--", lw=1.2)
  if config.max_accuracy_drop is not None:
    axes.axhline(100 * (rows[0]["val_accuracy"] - config.max_accuracy_drop),
                 label=f"max_accuracy_drop = {config.max_accuracy_drop:g}",
                 color="tab:green", ls=":", lw=1.2)


def _frame(axes: Any, rows: Sequence[Row], kilobytes: np.ndarray, accuracy: np.ndarray) -> None:
  """Sets what part is shown: around what was deployed, for most plans seen are far worse."""
  shown = [100 * row["val_accuracy"] for row in rows]
  highest, depth = max(shown), max(2 * (max(shown) - min(shown)), 3)
  bottom = max(0, highest - depth)
  axes.set_ylim(bottom, min(highest + 0.15 * depth, 100.5))
  left = min([*kilobytes[accuracy > bottom], *(row["artifact_bytes"] / 1000 for row in rows)])
  left, right = 0.9 * left, 1.1 * kilobytes.max()
  axes.set_xscale("log")
  axes.set_xlim(left, right)
  ticks = _ticks(left, right)
  axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
  axes.minorticks_off()


def _ticks(low: float, high: float) -> list[float]:
  """Returns 1, 2, 5 times powers of ten between two limits.

  Example:
    >>> _ticks(3, 60)
    [5.0, 10.0, 20.0, 50.0]
  """
  ticks = []
  for power in range(-1, 6):
    ticks += [factor * 10.0**power for factor in (1, 2, 5)]
  return [tick for tick in ticks if low < tick < high]


def sensitivity(table: Table, path: Path) -> None:
  """Draws the accuracy lost by each layer and choice alone, one panel per rank.

  Args:
    table: of accuracies.
    path: a PNG file.
  """
  panels, layers = _panels(table), list(table.scores)
  columns = _columns(table)
  names = [_column(bits, sparsity) for bits, sparsity in columns]
  # The scale ends at what any choice costs, or at 30 points: beyond, all are as bad.
  worst = 100 * max(table.base - min(row.values()) for row in table.scores.values())
  # Inches: a column and a row are as large as their texts need.
  size = (max(6, 2.6 + 0.34 * len(columns)), 1.4 + (0.6 + 0.3 * len(layers)) * len(panels))
  with figure(path, len(panels), 1, size=size, squeeze=False, sharex=True) as axes:
    for axis, panel in zip(axes[:, 0], panels, strict=True):
      lost = [[panel["lost"].get((layer, *column), np.nan) for column in columns]
              for layer in layers]
      image = axis.imshow(np.array(lost), cmap="magma_r", vmin=0, vmax=min(max(worst, 1), 30),
                          aspect="auto")
      axis.grid(visible=False)
      axis.set_yticks(range(len(layers)), [_layer(layer, panel) for layer in layers], fontsize=8)
      axis.set_xticks(range(len(columns)), names, rotation=90, fontsize=7)
      axis.set_facecolor("0.9")  # of what was not measured
    axes[0, 0].set_title("accuracy lost when one layer alone is compressed, points (validation)",
                         fontsize=10)
    axes[0, 0].figure.colorbar(image, ax=axes[:, 0].tolist(), extend="max", label="points")


def _columns(table: Table) -> list[tuple[int | None, float]]:
  """Returns (bits, sparsity) of all choices, each once."""
  columns: dict[tuple[int | None, float], None] = {}
  for row in table.scores.values():
    columns |= dict.fromkeys((choice.bits, choice.sparsity) for choice in row)
  return list(columns)


def _column(bits: int | None, sparsity: float) -> str:
  width = f"{bits} bits" if bits else "float"
  return f"{width}, {100 * sparsity:g} %"


def _panels(table: Table) -> list[dict[str, dict[Any, Any]]]:
  """Returns what the panels of each layer's first, second, … rank show.

  A panel is {"lost": {(layer, bits, sparsity): points}, "rank": {layer: rank or None}}.
  """
  panels: list[dict[str, dict[Any, Any]]] = []
  for layer, row in table.scores.items():
    ranks = list(dict.fromkeys(choice.rank for choice in row))
    while len(panels) < len(ranks):
      panels.append({"lost": {}, "rank": {}})
    for choice, score in row.items():
      panel = panels[ranks.index(choice.rank)]
      panel["rank"][layer] = choice.rank
      panel["lost"][(layer, choice.bits, choice.sparsity)] = 100 * (table.base - score)
  return panels


def _layer(layer: str, panel: Mapping[str, Mapping[Any, Any]]) -> str:
  rank = panel["rank"].get(layer)
  return f"{layer}, rank {rank}" if rank else layer

"""The tables of the birds study beside the paper's, its Figures 3 and 4, and Table III drawn."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import models, report, report_page
from experiments.progress import say

Row = Mapping[str, Any]
PAPER = json.loads((Path(__file__).parent / "papers" / "comparative.json").read_text())
STRATEGIES = {"head": "last layer only, pretrained", "base": "all layers, pretrained",
              "scratch": "all layers, from scratch"}
LABELS = {"layer": "layer by layer", "global": "globally", "l1": "L1", "l2": "L2"}


def write(rows: Sequence[Row], workdir: Path, config: Any,
          histories: Mapping[str, Sequence[Row]]) -> None:
  """Writes results.csv, results.json, tables.md, three pictures and report.html.

  Args:
    rows: one a stage and seed.
    workdir: where the files go.
    config: the study's configuration.
    histories: of the students of the first seed, an epoch a row.
  """
  made_with = report.keep(rows, workdir, config)
  means = report.means(rows)
  text = tables(means, config)
  (workdir / "tables.md").write_text(text)
  curves(histories["squeezenet"], "SqueezeNet, trained on the labels", workdir / "figure3.png")
  # In training it is of labels and teacher, which is another scale.
  curves(histories["squeezenet-kd"], "SqueezeNet, distilled from ResNet-50",
         workdir / "figure4.png", ("training (labels and teacher)", "validation (labels)"))
  pruning(means, config, workdir / "table3.png")
  report_page.write(rows, means, workdir, config=config.to_dict(), environment=made_with)
  say(text + f"written: {workdir / 'results.csv'}, results.json, tables.md, figure3.png, "
      "figure4.png, table3.png, report.html")


def tables(means: Sequence[Row], config: Any) -> str:
  """Returns the paper's tables and ours beside them, as Markdown; differences are ours - theirs."""
  by_name = {r["combo"]: r for r in means}
  parts = [("Training the teacher (section III.B)", _strategies(by_name)),
           ("Table I", _table_1(by_name)), ("Table II", _table_2(by_name, config)),
           ("Figures 3 and 4", _students(by_name)), ("Table III", _table_3(by_name, config))]
  return "\n\n".join(f"{title}\n\n{text}" for title, text in parts) + "\n"


def _strategies(by_name: Mapping[str, Row]) -> str:
  named = STRATEGIES
  if "scratch" not in by_name:
    named = {"base": STRATEGIES["scratch"]}
  theirs = {t["model"]: t["accuracy"] for t in PAPER["section_3_b"]}
  # Without weights the base model is not the paper's.
  cells = [[text, *_compared(_percent(by_name[name]), theirs[name] if len(named) > 1 else None)]
           for name, text in named.items()]
  text = _markdown(["trained", "test accuracy, %", "paper", "difference"], cells)
  missing = "\n\nNo config.weights: the two ways that start from ImageNet's weights were not run."
  return text + missing * (len(named) == 1)


def _table_1(by_name: Mapping[str, Row]) -> str:
  first, cells = PAPER["table_1"][0]["seconds"], []
  for t in PAPER["table_1"]:
    r = by_name[t["model"]]
    faster = by_name["base"]["milliseconds"] / r["milliseconds"]
    cells.append([t["model"], *_compared(_percent(r), t["accuracy"]),
                  f"{r['artifact_bytes'] / 1e6:.2f}", f"{r['milliseconds']:.2f}",
                  f"{1000 * t['seconds']:.1f}", f"{faster:.2f}", f"{first / t['seconds']:.2f}"])
  return _markdown(["model", "test accuracy, %", "paper", "difference", "file, MB", "ms an image",
                    "paper (of what: not said)", "times faster", "paper"], cells)


def _table_2(by_name: Mapping[str, Row], config: Any) -> str:
  parts = {"base": config.model, "squeezenet": config.squeezenet, "studentnet": config.studentnet}
  cells = []
  for t in PAPER["table_2"]:
    r, (params, size) = by_name[t["model"]], counted(parts[t["model"]], config, PAPER["classes"])
    cells.append([parts[t["model"]].name, f"{r['params']:,.0f}",
                  f"{r['dense_bytes'] / 2**20:.2f}", f"{params:,}", f"{t['parameters']:,}",
                  f"{params - t['parameters']:,}", f"{size / 2**20:.2f}",
                  f"{t['megabytes']:.2f}", f"{size / 2**20 - t['megabytes']:+.2f}"])
  many = f"parameters, {PAPER['classes']} classes"
  return _markdown(["model", "parameters, this data", "MiB", many, "paper", "difference", "MiB",
                    "paper (Mb)", "difference"], cells)


def counted(part: Any, config: Any, classes: int) -> tuple[int, int]:
  """Returns parameters, and bytes with the statistics of norms, of a model of the configuration."""
  made = models.create(part.name, num_classes=classes, **part.arguments.to_dict())
  image = jnp.zeros((1, config.data.side, config.data.side, 3))
  shapes = jax.eval_shape(functools.partial(made.init, train=False), jax.random.key(0), image)
  elements = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  return elements(shapes["params"]), 4 * elements(shapes)


def _students(by_name: Mapping[str, Row]) -> str:
  cells = [[t["model"], *_compared(_percent(by_name[t["model"]], "val"), t["accuracy"]),
            _percent(by_name[t["model"]])[0]] for t in PAPER["figures_3_and_4"]]
  return _markdown(["student", "validation accuracy, %", "paper", "difference",
                    "test accuracy, %"], cells)


def _table_3(by_name: Mapping[str, Row], config: Any) -> str:
  theirs, cells = {t["iteration"]: t for t in PAPER["table_3"]}, []
  for kind in config.prune.grid:
    for i, r in enumerate(_rounds(by_name, kind, config)):
      t = theirs.get(i, {"sparsity": None, "accuracy": None})
      sparsity = _sparsity(r)
      cells.append([_named(kind), str(i), *_compared((f"{sparsity:.2f}", sparsity), t["sparsity"]),
                    *_compared(_percent(r, "val"), t["accuracy"])])
  return _markdown(["pruned, penalty", "iteration", "global sparsity, %", "paper", "difference",
                    "validation accuracy, %", "paper", "difference"], cells)


def _rounds(by_name: Mapping[str, Row], kind: str, config: Any) -> list[Row]:
  """Returns the base model and what each round made of it."""
  return [by_name["base"], *(by_name[f"{kind}-{i}"] for i in range(1, config.prune.rounds + 1))]


def _named(kind: str) -> str:
  return ", ".join(LABELS[part] for part in kind.split("-"))


def _sparsity(row: Row) -> float:
  """Returns zeros among all parameters, in percent."""
  return 100 * (1 - row["nonzero_params"] / row["params"])


def _percent(row: Row, split: str = "test") -> tuple[str, float]:
  """Returns an accuracy as text, with its deviation over seeds, and as a number."""
  spread = row["spread" if split == "test" else "val_spread"]
  value = 100 * row[f"{split}_accuracy"]
  return f"{value:.2f}" + ("" if spread is None else f" ± {100 * spread:.2f}"), value


def _compared(ours: tuple[str, float], theirs: float | None) -> list[str]:
  """Returns three cells: ours, theirs, the difference."""
  if theirs is None:
    return [ours[0], "–", "–"]
  return [ours[0], f"{theirs:.2f}", f"{ours[1] - theirs:+.2f}"]


def _markdown(heading: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
  lines = ["| " + " | ".join(row) + " |" for row in (heading, *cells)]
  return "\n".join([lines[0], "|" + "---|" * len(heading), *lines[1:]])


def curves(history: Sequence[Row], title: str, path: Path,
           losses: tuple[str, str] = ("training", "validation")) -> None:
  """Draws accuracy and loss of training and validation images by epoch (Figures 3, 4).

  Args:
    history: an epoch each: loss, val_loss, accuracy, val_accuracy.
    title: of the picture.
    path: a PNG file.
    losses: what the two losses are called.
  """
  epochs = range(1, len(history) + 1)
  with report.figure(path, 1, 2, size=(9, 3.8)) as axes:
    axes[0].figure.suptitle(title)
    for one, field, factor, label, names in (
        (axes[0], "accuracy", 100, "accuracy, %", ("training", "validation")),
        (axes[1], "loss", 1, "loss", losses)):
      for start, name in zip(("", "val_"), names, strict=True):
        one.plot(epochs, [factor * h[start + field] for h in history], "o-", ms=3, label=name)
      one.set(xlabel="epoch", ylabel=label)
      one.xaxis.get_major_locator().set_params(integer=True)
      one.legend()


def pruning(means: Sequence[Row], config: Any, path: Path) -> None:
  """Draws validation accuracy against global sparsity (Table III).

  Args:
    means: rows.
    config: the study's configuration.
    path: a PNG file.
  """
  by_name = {r["combo"]: r for r in means}
  with report.figure(path) as axes:
    for i, kind in enumerate(config.prune.grid):
      rows = _rounds(by_name, kind, config)
      axes.plot([_sparsity(r) for r in rows], [100 * r["val_accuracy"] for r in rows],
                "os^v"[i % 4] + "-", ms=5, label=_named(kind), alpha=0.8)
    axes.plot([t["sparsity"] for t in PAPER["table_3"]], [t["accuracy"] for t in PAPER["table_3"]],
              "x--", color="0.5", label="paper")
    axes.set(xlabel="global sparsity, %", ylabel="validation accuracy, %")
    axes.legend()

"""The tables of the birds study beside the paper's, its Figures 3 and 4, and Table III drawn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax.io import files
from experiments import models
from experiments.reporting import page as report_page
from experiments.reporting import paper_tables, report
from experiments.reporting.paper_tables import ACCURACY, Column
from experiments.training.progress import say

Row = Mapping[str, Any]
VALIDATION = Column("validation accuracy, %", "val_accuracy", "accuracy", scale=100,
                    spread="val_spread")
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
  files.write(workdir / "tables.md", text)
  report.curves(histories["squeezenet"], "SqueezeNet, trained on the labels",
                workdir / "figure3.png")
  # In training it is of labels and teacher, which is another scale.
  report.curves(histories["squeezenet-kd"], "SqueezeNet, distilled from ResNet-50",
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
  return "\n".join(f"### {title}\n\n{text}" for title, text in parts)


def _strategies(by_name: Mapping[str, Row]) -> str:
  theirs = {t["model"]: t for t in paper_tables.paper("birds")["section_3_b"]}
  if "scratch" in by_name:
    return paper_tables.markdown([(text, by_name[name], theirs[name])
                                for name, text in STRATEGIES.items()], [ACCURACY], first="trained")
  # Without weights the base model is not the paper's.
  text = paper_tables.markdown([(STRATEGIES["scratch"], by_name["base"], {})], [ACCURACY],
                             first="trained")
  return text + ("\nNo config.weights: the two ways that start from ImageNet's weights were "
                 "not run.\n")


def _table_1(by_name: Mapping[str, Row]) -> str:
  theirs, slow = paper_tables.paper("birds")["table_1"], by_name["base"]["milliseconds"]
  ours = {name: {**r, "faster": slow / r["milliseconds"]} for name, r in by_name.items()
          if name in ("base", "quantized")}
  pairs = [(t["model"], ours[t["model"]],
            {**t, "milliseconds": 1000 * t["seconds"],
             "faster": theirs[0]["seconds"] / t["seconds"]}) for t in theirs]
  # The paper does not say of how many images its time is.
  return paper_tables.markdown(pairs, [
      ACCURACY, Column("file, MB", "artifact_bytes", None, scale=1e-6),
      Column("ms an image", "milliseconds", "milliseconds", difference=False),
      Column("times faster", "faster", "faster")])


def _table_2(by_name: Mapping[str, Row], config: Any) -> str:
  paper = paper_tables.paper("birds")
  parts = {"base": config.model, "squeezenet": config.squeezenet, "studentnet": config.studentnet}
  cells = []
  for t in paper["table_2"]:
    r, (params, size) = by_name[t["model"]], counted(parts[t["model"]], config, paper["classes"])
    cells.append([parts[t["model"]].name, f"{r['params']:,.0f}",
                  f"{r['dense_bytes'] / 2**20:.2f}", f"{params:,}", f"{t['parameters']:,}",
                  f"{params - t['parameters']:,}", f"{size / 2**20:.2f}",
                  f"{t['megabytes']:.2f}", f"{size / 2**20 - t['megabytes']:+.2f}"])
  many = f"parameters, {paper['classes']} classes"
  return paper_tables.lines([["model", "parameters, this data", "MiB", many,
                            "paper", "difference", "MiB",
                    "paper (Mb)", "difference"], *cells])


def counted(part: Any, config: Any, classes: int) -> tuple[int, int]:
  """Returns parameters, and bytes with the statistics of norms, of a model of the configuration."""
  made = models.create(part.name, num_classes=classes, **part.arguments.to_dict())
  image = jnp.zeros((1, config.data.side, config.data.side, 3))
  shapes = jax.eval_shape(functools.partial(made.init, train=False), jax.random.key(0), image)
  elements = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  return elements(shapes["params"]), 4 * elements(shapes)


def _students(by_name: Mapping[str, Row]) -> str:
  theirs = paper_tables.paper("birds")["figures_3_and_4"]
  pairs = [(t["model"], by_name[t["model"]], t) for t in theirs]
  return paper_tables.markdown(pairs, [VALIDATION, dataclasses.replace(ACCURACY, paper=None)],
                             first="student")


def _table_3(by_name: Mapping[str, Row], config: Any) -> str:
  theirs = {t["iteration"]: t for t in paper_tables.paper("birds")["table_3"]}
  pairs = [(f"{_named(kind)}, {i}", {**r, "sparsity": _sparsity(r)}, theirs.get(i, {}))
           for kind in config.prune.grid for i, r in enumerate(_rounds(by_name, kind, config))]
  return paper_tables.markdown(pairs, [Column("global sparsity, %", "sparsity", "sparsity"),
                                     VALIDATION], first="pruned, penalty, iteration")


def _rounds(by_name: Mapping[str, Row], kind: str, config: Any) -> list[Row]:
  """Returns the base model and what each round made of it."""
  return [by_name["base"], *(by_name[f"{kind}-{i}"] for i in range(1, config.prune.rounds + 1))]


def _named(kind: str) -> str:
  return ", ".join(LABELS[part] for part in kind.split("-"))


def _sparsity(row: Row) -> float:
  """Returns zeros among all parameters, in percent."""
  return 100 * (1 - row["nonzero_params"] / row["params"])


def pruning(means: Sequence[Row], config: Any, path: Path) -> None:
  """Draws validation accuracy against global sparsity (Table III).

  Args:
    means: rows.
    config: the study's configuration.
    path: a PNG file.
  """
  by_name, paper = {r["combo"]: r for r in means}, paper_tables.paper("birds")["table_3"]
  with report.figure(path) as axes:
    for i, kind in enumerate(config.prune.grid):
      rows = _rounds(by_name, kind, config)
      axes.plot([_sparsity(r) for r in rows], [100 * r["val_accuracy"] for r in rows],
                "os^v"[i % 4] + "-", ms=5, label=_named(kind), alpha=0.8)
    axes.plot([t["sparsity"] for t in paper], [t["accuracy"] for t in paper],
              "x--", color="0.5", label="paper")
    axes.set(xlabel="global sparsity, %", ylabel="validation accuracy, %")
    axes.legend()

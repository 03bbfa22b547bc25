"""The tables of the birds study beside the paper's, its Figures 3 and 4, and Table III drawn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments import models
from experiments.datasets import builders
from experiments.reporting import figures, over_seeds, paper_tables, results
from experiments.reporting.paper_tables import ACCURACY, VALIDATION, Column

Row = Mapping[str, Any]
STRATEGIES = {"head": "last layer only, pretrained", "base": "all layers, pretrained",
              "scratch": "all layers, from scratch"}
LABELS = {"layer": "layer by layer", "global": "globally", "l1": "L1", "l2": "L2"}
_MARKS = "os^v"


def write(studies: Sequence[Any], rows: Sequence[Row], workdir: Path, config: Any) -> None:
  """Writes results.csv, results.json, tables.md, three pictures and report.html; prints tables.

  Args:
    studies: one per seed.
    rows: one row per stage and seed.
    workdir: where the files go.
    config: the study's configuration.
  """
  means, classes = over_seeds.means(rows), builders.num_classes(studies[0].builder)
  results.write(studies, rows, workdir, config,
                texts={"tables.md": functools.partial(tables, means, config, classes)}, pictures={
      "figure3.png": functools.partial(
          figures.training, studies[0], "squeezenet", "SqueezeNet, trained on the labels"),
      "figure4.png": functools.partial(
          figures.training, studies[0], "squeezenet-kd", "SqueezeNet, distilled from ResNet-50",
          losses=figures.DISTILLED),
      "table3.png": functools.partial(pruning, means, config)})


def tables(means: Sequence[Row], config: Any, classes: int) -> str:
  """Returns the paper's tables and ours beside them, as Markdown.

  Args:
    means: one row per stage, of `over_seeds.means`.
    config: the study's configuration.
    classes: of our data. With as many as the paper's, they count as the paper's, and there
      are differences: ours - theirs.
  """
  ours, theirs = over_seeds.by_name(means), paper_tables.paper("birds")["classes"]
  same = classes == theirs
  parts = [("Training the teacher (section III.B)", _strategies(ours, same)),
           ("Table I", _table_1(ours, same)), ("Table II", _table_2(ours, config)),
           ("Figures 3 and 4", _students(ours, same)), ("Table III", _table_3(ours, config, same))]
  text = "\n".join(f"### {title}\n\n{table}" for title, table in parts)
  return text if same else f"Ours: {classes} classes; the paper's: {theirs} birds.\n\n{text}"


def _strategies(ours: Mapping[str, Row], same_data: bool) -> str:
  if "scratch" not in ours:
    # Without weights the base model is not the paper's.
    text = paper_tables.markdown([(STRATEGIES["scratch"], ours["base"], {})], [ACCURACY],
                                 first="trained", same_data=same_data)
    return text + ("\nNo config.weights: the two ways that start from ImageNet's weights were "
                   "not run.\n")
  theirs = {row["model"]: row for row in paper_tables.paper("birds")["section_3_b"]}
  pairs = [(text, ours[name], theirs[name]) for name, text in STRATEGIES.items()]
  return paper_tables.markdown(pairs, [ACCURACY], first="trained", same_data=same_data)


def _table_1(ours: Mapping[str, Row], same_data: bool) -> str:
  paper = paper_tables.paper("birds")["table_1"]
  slow, papers_slow = ours["base"]["milliseconds"], paper[0]["seconds"]
  pairs = []
  for theirs in paper:
    row = ours[theirs["model"]]
    pairs.append((theirs["model"], {**row, "faster": slow / row["milliseconds"]},
                  {**theirs, "milliseconds": 1000 * theirs["seconds"],
                   "faster": papers_slow / theirs["seconds"]}))
  return paper_tables.markdown(pairs, [
      ACCURACY, Column("file, MB", "artifact_bytes", None, scale=1e-6),
      # No difference: the paper does not say of how many images its time is.
      Column("ms per image", "milliseconds", "milliseconds", difference=False),
      Column("times faster", "faster", "faster")], same_data=same_data)


def _table_2(ours: Mapping[str, Row], config: Any) -> str:
  paper = paper_tables.paper("birds")
  parts = {"base": config.model, "squeezenet": config.squeezenet, "studentnet": config.studentnet}
  table = [["model", "parameters, this data", "MiB", f"parameters, {paper['classes']} classes",
            "paper", "difference", "MiB", "paper (Mb)", "difference"]]
  for theirs in paper["table_2"]:
    row, part = ours[theirs["model"]], parts[theirs["model"]]
    params, nbytes = counted(part, config, paper["classes"])
    mebibytes = nbytes / 2**20
    table.append([part.name, f"{row['params']:,.0f}", f"{row['dense_bytes'] / 2**20:.2f}",
                  f"{params:,}", f"{theirs['parameters']:,}", f"{params - theirs['parameters']:,}",
                  f"{mebibytes:.2f}", f"{theirs['megabytes']:.2f}",
                  f"{mebibytes - theirs['megabytes']:+.2f}"])
  return paper_tables.lines(table)


def counted(part: Any, config: Any, classes: int) -> tuple[int, int]:
  """Counts a model of the configuration, without making it.

  Args:
    part: the model.
    config: the study's configuration, says the images' side.
    classes: length of the logits.

  Returns:
    The number of parameters, and bytes in float32 with the statistics of batch norms.
  """
  made = models.create(part.name, num_classes=classes, **part.arguments.to_dict())
  image = jnp.zeros((1, config.data.side, config.data.side, 3))
  shapes = jax.eval_shape(functools.partial(made.init, train=False), jax.random.key(0), image)
  return _elements(shapes["params"]), 4 * _elements(shapes)


def _elements(tree: Any) -> int:
  return sum(x.size for x in jax.tree.leaves(tree))


def _students(ours: Mapping[str, Row], same_data: bool) -> str:
  paper = paper_tables.paper("birds")["figures_3_and_4"]
  pairs = [(theirs["model"], ours[theirs["model"]], theirs) for theirs in paper]
  return paper_tables.markdown(pairs, [VALIDATION, dataclasses.replace(ACCURACY, paper=None)],
                               first="student", same_data=same_data)


def _table_3(ours: Mapping[str, Row], config: Any, same_data: bool) -> str:
  theirs = {row["iteration"]: row for row in paper_tables.paper("birds")["table_3"]}
  pairs = []
  for kind in config.prune.grid:
    for number, row in enumerate(_rounds(ours, kind, config)):
      pairs.append((f"{_named(kind)}, {number}", {**row, "sparsity": _sparsity(row)},
                    theirs.get(number, {})))
  return paper_tables.markdown(pairs, [Column("global sparsity, %", "sparsity", "sparsity"),
                                       VALIDATION],
                               first="pruned, penalty, iteration", same_data=same_data)


def _rounds(ours: Mapping[str, Row], kind: str, config: Any) -> list[Row]:
  """Returns the base model and what each round made of it."""
  return [ours["base"], *(ours[f"{kind}-{i}"] for i in range(1, config.prune.rounds + 1))]


def _named(kind: str) -> str:
  """Returns a kind of pruning in words.

  Example:
    >>> _named("layer-l1")
    'layer by layer, L1'
  """
  return ", ".join(LABELS[part] for part in kind.split("-"))


def _sparsity(row: Row) -> float:
  """Returns zeros among all parameters, in percent."""
  return 100 * (1 - row["nonzero_params"] / row["params"])


def pruning(means: Sequence[Row], config: Any, path: Path) -> None:
  """Draws validation accuracy against global sparsity (Table III).

  Args:
    means: one row per stage, of `over_seeds.means`.
    config: the study's configuration.
    path: a PNG file.
  """
  ours, paper = over_seeds.by_name(means), paper_tables.paper("birds")["table_3"]
  with figures.figure(path) as axes:
    for kind, mark in zip(config.prune.grid, _MARKS, strict=False):
      rows = _rounds(ours, kind, config)
      axes.plot([_sparsity(row) for row in rows], [100 * row["val_accuracy"] for row in rows],
                mark + "-", ms=5, label=_named(kind), alpha=0.8)
    # The paper does not say which of the kinds its rounds are.
    axes.plot([row["sparsity"] for row in paper], [row["accuracy"] for row in paper],
              "x--", color="0.5", label="paper")
    axes.set(xlabel="global sparsity, %", ylabel="validation accuracy, %")
    axes.legend()

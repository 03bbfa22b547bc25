"""What the search within limits leaves behind: tables, the plan and why, pictures, a page."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress_jax.io import files
from compress_jax.search import Choice, Table
from experiments.reporting import paper_tables, results
from experiments.studies.suggest import figures
from experiments.studies.suggest.config import given

Row = Mapping[str, Any]


def write(studies: Sequence[Any], rows: Sequence[Row], folder: Path, config: Any) -> None:
  """Writes results.csv, results.json, plans, pictures and report.html, and prints the plans.

  Args:
    studies: `Suggest`, one per seed.
    rows: of all seeds, one row per deployed model.
    folder: where the files go.
    config: the study's configuration.
  """
  texts, pictures, plans = {}, {}, []
  for study in studies:
    if not study.has("search"):
      continue
    own = [row for row in rows if row["seed"] == study.seed]
    # One seed is the usual case, and needs no number in its files' names.
    ending = f"-seed{study.seed}" if len(studies) > 1 else ""
    found, accuracy = study.result("search").metrics, study.table("accuracy")
    layers = plan_rows(study.plan(study.chosen), accuracy, study.table("bytes"))
    texts[f"tables{ending}.md"] = functools.partial(plan_text, own, layers, found, config)
    plans.append(f"plan{ending}.json")
    files.write_json(folder / plans[-1], {
        "chosen": [row for row in own if row["chosen"]], "layers": layers})
    pictures[f"front{ending}.png"] = functools.partial(figures.front, own, found, config)
    pictures[f"sensitivity{ending}.png"] = functools.partial(figures.sensitivity, accuracy)
  results.write(studies, rows, folder, config, texts=texts, pictures=pictures,
                also=plans)


def plan_rows(plan: Mapping[str, Choice], accuracy: Table, nbytes: Table) -> list[dict[str, Any]]:
  """Returns one row per layer: what is done to it, what that takes and costs alone, and why.

  Args:
    plan: {path: choice}.
    accuracy: with one layer compressed at a time.
    nbytes: of each layer alone.
  """
  out = []
  for path, choice in plan.items():
    size = nbytes.scores[path]
    lost = {other: accuracy.base - score for other, score in accuracy.scores[path].items()}
    out.append({"layer": path, "sparsity": choice.sparsity, "bits": choice.bits,
                "rank": choice.rank, "bytes": size[choice],
                "dense_bytes": size[Choice()], "alone_costs": lost[choice],
                "why": _why(choice, size, lost)})
  return out


def _why(choice: Choice, size: Mapping[Choice, float], lost: Mapping[Choice, float]) -> str:
  """Returns a sentence: what is given up by it, and by the gentlest choice that is smaller."""
  first = "left as it is"
  if choice != Choice():
    saved = 1 - size[choice] / size[Choice()]
    first = f"saves {100 * saved:.0f} % of the layer for {100 * lost[choice]:.2f} points"
  # A choice that is only a little smaller says nothing about why not less.
  smaller = [other for other in size if size[other] < 0.9 * size[choice]]
  if not smaller:
    return f"{first}; nothing is much smaller"
  gentlest = min(smaller, key=lambda other: (lost[other], size[other]))
  return (f"{first}; the gentlest that is at least a tenth smaller, {gentlest}, would cost "
          f"{100 * lost[gentlest]:.2f}")


def plan_text(rows: Sequence[Row], layers: Sequence[Row], found: Row, config: Any) -> str:
  """Returns tables.md: what was asked for, what was found, the layers, what it is compared with.

  Args:
    rows: one seed's, one row per deployed model.
    layers: of `plan_rows`.
    found: the search stage's metrics.
    config: the study's configuration.
  """
  chosen = next(row for row in rows if row["chosen"])
  base = next(row for row in rows if row["combo"] == "base")
  asked = ", ".join(f"{field} = {value:.15g}" for field, value in given(config).items())
  verdict = "Within all limits."
  if chosen["misses"]:
    verdict = f"NOTHING FOUND IS WITHIN THE LIMITS. The nearest misses {chosen['misses']}."
  lost = 100 * (base["val_accuracy"] - chosen["val_accuracy"])
  parts = [
      f"# Suggested for {asked}\n",
      f"{verdict}\n{chosen['artifact_bytes']:,} bytes ({100 * chosen['reduction']:.1f} % saved), "
      f"{lost:.2f} points of validation accuracy below the base model, "
      f"{chosen['milliseconds']:.3f} ms per batch of {config.batch}.\n"
      f"Chosen among {len(found['points'])} plans by validation accuracy; a single seed "
      f"({chosen['seed']}); test accuracy only reported.\n",
      _layers(layers), deployed(rows)]
  return "\n".join(parts)


def _layers(layers: Sequence[Row]) -> str:
  table = [["layer", "rank", "sparsity", "bits", "bytes", "dense",
            "why (each layer alone, validation)"]]
  for row in layers:
    # Neither a rank nor bits are ever 0: None is what has none.
    table.append([row["layer"], str(row["rank"] or "–"), f"{row['sparsity']:g}",
                  str(row["bits"] or "float"), f"{row['bytes']:,}", f"{row['dense_bytes']:,}",
                  row["why"]])
  return paper_tables.lines(table)


def deployed(rows: Sequence[Row]) -> str:
  """Returns the table of what was deployed, as Markdown; the chosen one is bold.

  Args:
    rows: one seed's, one row per deployed model.
  """
  table = [["deployed", "layers", "before fine-tuning, %", "validation, %", "test, %", "bytes",
            "saved, %", "ms", "misses"]]
  for row in rows:
    name = f"**{row['combo']}**" if row["chosen"] else row["combo"]
    table.append([name, row["what"] or "–", f"{100 * row['before_finetuning']:.2f}",
                  f"{100 * row['val_accuracy']:.2f}", f"{100 * row['test_accuracy']:.2f}",
                  f"{row['artifact_bytes']:,}", f"{100 * row['reduction']:.1f}",
                  f"{row['milliseconds']:.3f}", row["misses"] or "–"])
  return paper_tables.lines(table)

"""What the search within limits leaves behind: tables, the plan and why, pictures, a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress_jax.io import files
from compress_jax.search import Choice, Table
from experiments.reporting import page as report_page
from experiments.reporting import report
from experiments.studies.suggest import figures as suggest_figures
from experiments.training.progress import say

Row = Mapping[str, Any]


def write(studies: Sequence[Any], rows: Sequence[Row], folder: Path, config: Any) -> None:
  """Writes results.csv, results.json, plans, pictures and report.html, and prints the plans.

  Args:
    studies: `suggest.Suggest`, one a seed.
    rows: of all seeds.
    folder: where the files go.
    config: the study's configuration.
  """
  made_with = report.keep(rows, folder, config)
  for one in studies:
    own = [r for r in rows if r["seed"] == one.seed]
    name = f"-seed{one.seed}" * (len(studies) > 1)
    found, tables = one.result("search").metrics, {
        kind: one.table(kind) for kind in ("accuracy", "bytes")}
    layers = plan_rows(one.plan(one.chosen), tables["accuracy"], tables["bytes"])
    text = plan_text(own, layers, found, config)
    files.write(folder / f"plan{name}.md", text)
    files.write_json(folder / f"plan{name}.json", {
        "chosen": [r for r in own if r["chosen"]], "layers": layers})
    suggest_figures.front(own, found, config, folder / f"front{name}.png")
    suggest_figures.sensitivity(tables["accuracy"], folder / f"sensitivity{name}.png")
    say(text)
  report_page.write(rows, report.means(rows), folder, config=config.to_dict(),
                    environment=made_with)
  say(f"written: {folder}: results.csv, results.json, plan.md, plan.json, front.png, "
      "sensitivity.png, report.html")


def plan_rows(plan: Mapping[str, Choice], accuracy: Table, nbytes: Table) -> list[dict[str, Any]]:
  """Returns a row a layer: what is done to it, what that takes and costs alone, and why.

  Args:
    plan: {path: choice}.
    accuracy: with one layer compressed at a time.
    nbytes: of each layer alone.
  """
  out = []
  for path, choice in plan.items():
    size = nbytes.scores[path]
    lost = {c: accuracy.base - a for c, a in accuracy.scores[path].items()}
    out.append({"layer": path, **dataclasses.asdict(choice), "bytes": size[choice],
                "dense_bytes": size[Choice()], "alone_costs": lost[choice],
                "why": _why(choice, size, lost)})
  return out


def _why(choice: Choice, size: Mapping[Choice, float], lost: Mapping[Choice, float]) -> str:
  """Returns a sentence: what is given up by it, and by the gentlest choice that is smaller."""
  saved = 1 - size[choice] / size[Choice()]
  first = (f"saves {100 * saved:.0f} % of the layer for {100 * lost[choice]:.2f} points"
           if choice != Choice() else "left as it is")
  smaller = [c for c in size if size[c] < 0.9 * size[choice]]
  if not smaller:
    return f"{first}; nothing is much smaller"
  other = min(smaller, key=lambda c: (lost[c], size[c]))
  return (f"{first}; the gentlest that is at least a tenth smaller, {other}, would cost "
          f"{100 * lost[other]:.2f}")


def plan_text(rows: Sequence[Row], layers: Sequence[Row], found: Row, config: Any) -> str:
  """Returns plan.md: what was asked for, what was found, the layers, what it is compared with."""
  chosen = next(r for r in rows if r["chosen"])
  base = next(r for r in rows if r["combo"] == "base")
  asked = ", ".join(f"{k} = {config[k]:g}" for k in ("max_bytes", "max_latency_ms",
                                                    "max_accuracy_drop") if config[k] is not None)
  verdict = ("Within all limits." if not chosen["misses"] else
             f"NOTHING FOUND IS WITHIN THE LIMITS. The nearest misses {chosen['misses']}.")
  lost = 100 * (base["val_accuracy"] - chosen["val_accuracy"])
  lines = [
      f"# Suggested for {asked}", "", verdict,
      f"{chosen['artifact_bytes']:,} bytes ({100 * chosen['reduction']:.1f} % saved), "
      f"{lost:.2f} points of validation accuracy below the base model, "
      f"{chosen['milliseconds']:.3f} ms a batch of {config.batch}.",
      f"Chosen among {len(found['points'])} plans by validation accuracy; a single seed "
      f"({chosen['seed']}); test accuracy only reported.", "",
      "| layer | rank | sparsity | bits | bytes | dense | why (each layer alone, validation) |",
      "|---|---|---|---|---|---|---|"]
  lines += [f"| {r['layer']} | {r['rank'] or '–'} | {r['sparsity']:g} | {r['bits'] or 'float'} | "
            f"{r['bytes']:,} | {r['dense_bytes']:,} | {r['why']} |" for r in layers]
  return "\n".join([*lines, "", *deployed(rows)]) + "\n"


def deployed(rows: Sequence[Row]) -> list[str]:
  """Returns the table of what was deployed, as lines."""
  lines = ["| deployed | layers | before fine-tuning, % | validation, % | test, % | bytes | "
           "saved, % | ms | misses |", "|---|---|---|---|---|---|---|---|---|"]
  for r in rows:
    name = f"**{r['combo']}**" if r["chosen"] else r["combo"]
    lines.append(f"| {name} | {r['what'] or '–'} | "
                 f"{100 * r['before_finetuning']:.2f} | {100 * r['val_accuracy']:.2f} | "
                 f"{100 * r['test_accuracy']:.2f} | {r['artifact_bytes']:,} | "
                 f"{100 * r['reduction']:.1f} | {r['milliseconds']:.3f} | {r['misses'] or '–'} |")
  return lines

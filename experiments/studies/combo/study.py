"""The sixteen combinations of "Combinatorics with model compression" (Figures 3 to 6).

Distillation, iterative pruning, factorization, quantization, in this order; a
combination starts from the one without its last technique, so that sixteen
combinations are the base model and fifteen stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from compress_jax.io import files
from experiments.reporting import report
from experiments.studies import base
from experiments.studies.combo import report as combo_report
from experiments.studies.combo.config import check, check_models, selected
from experiments.training import techniques
from experiments.training.progress import Log, say


def run(config: Any, workdir: Path, data_dir: str | None = None,
        results: Path | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it; writes its report. See `base.run`."""
  check(config)
  folder = results or workdir
  folder.mkdir(parents=True, exist_ok=True)
  studies, rows = base.run(Combinations, config, workdir, data_dir, folder)
  report.write(rows, folder, config)
  figures(studies, rows, folder)
  return rows


def beside(config: Any) -> Any:
  """Returns the combination study on the model of another study, whose base model it shares.

  Args:
    config: the other study's; `combine` holds what is not there already.
  """
  shared = ("data", "seed", "seeds", "compute_dtype")
  made = ConfigDict({**{k: config[k] for k in shared}, "teacher": config.model,
                     "study": "experiments.studies.combo.study.run"})
  made.base = config.combine.get("base") or config.base
  made.weights = config.get("weights") or ""
  made.update(config.combine)
  return made.lock()


def figures(studies: Sequence[Combinations], rows: list[dict[str, Any]], folder: Path) -> None:
  """Writes tables.md, and Figures 3 to 5 where the configuration asks for them."""
  config, more = studies[0].config, []
  if config.get("conventional"):
    more = [one.row("conventional") for one in studies]
    alone, taught = (studies[0].result(n).metrics["history"] for n in ("conventional", "kd"))
    report.curves(alone, "student, trained on the labels", folder / "figure3.png")
    # In training it is of labels and teacher, which is another scale.
    report.curves(taught, "student, distilled", folder / "figure4.png",
                  ("training (labels and teacher)", "validation (labels)"))
  if config.get("deltas"):
    names = [f"{start}lrtf-delta{d}" for start in ("", "kd+") for d in config.deltas]
    combo_report.deltas([one.row(n) for one in studies for n in names], folder / "figure5.png")
  text = (f"Ours on {config.data.name}, the paper's on CIFAR-10.\n\n"
          + combo_report.tables([*rows, *more]))
  files.write(folder / "tables.md", text)
  say(text)


class Combinations(base.Study):
  """One seed of the study: the tree of stages."""

  def __init__(self, config: Any, workdir: Path, builder: Any, *more: Any):
    check_models(config, builder)
    super().__init__(config, workdir, builder, *more)

  @property
  def names(self) -> Sequence[str]:
    return selected(self.config)

  def parent(self, name: str) -> str | None:
    if name in ("base", "conventional"):
      return None
    return "+".join(name.split("+")[:-1]) or "base"

  def spec(self, name: str) -> Mapping[str, Any]:
    c, technique = self.config, name.split("+")[-1]
    if name == "base":
      return self.base_spec(c.teacher, c.base)
    if name == "conventional":
      return {"model": c.student.to_dict(), "recipe": c.kd.train.to_dict()}
    if technique.startswith("lrtf-delta"):
      return {"model": c[self._model(name)].to_dict()}
    return {"technique": technique, "recipe": c[technique].to_dict(),
            "model": c[self._model(name)].to_dict()}

  def _model(self, name: str) -> str:
    return "student" if name.startswith("kd") else "teacher"

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c, technique = self.config, name.split("+")[-1]
    model = c[self._model(name)]
    if name == "conventional":
      return self.teach(c.student, c.kd, work, log)
    if technique == "base":
      return self.teach(model, c.base, work, log, c.get("weights") or "")
    parent = self.trained(self.parent(name))
    if technique == "kd":
      return techniques.distil(parent, model.name, self.arguments(model), self.data,
                            self.recipe(c.kd), work, log, temperature=c.kd.temperature,
                            alpha=c.kd.alpha)
    if technique == "imp":
      return techniques.prune_iteratively(
          parent, self.data, self.recipe(c.imp), work, log, fraction=c.imp.fraction,
          tolerance=c.imp.tolerance, rounds=c.imp.rounds)
    if technique.startswith("lrtf-delta"):
      return techniques.factorize(parent, rank=0, delta=int(technique.removeprefix("lrtf-delta")))
    if technique == "lrtf":
      return techniques.factorize(parent, rank=c.lrtf.rank, delta=c.lrtf.delta)
    return techniques.quantize(parent, self.data, bits=c.q.bits,
                            activation_bits=c.q.activation_bits, images=c.q.images)

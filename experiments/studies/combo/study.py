"""The sixteen combinations of "Combinatorics with model compression" (Figures 3 to 6).

Distillation, iterative pruning, factorization, quantization, in this order; a
combination starts from the one without its last technique, so that sixteen
combinations are the base model and fifteen stages.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments.studies import base, seeds
from experiments.studies.combo import quality, report
from experiments.studies.combo.config import check, check_models, selected
from experiments.training import techniques
from experiments.training.progress import Log

# Of which part of the configuration the techniques beside the four are.
_PART = {"fisher": "lrtf", "tune": "imp"}


def beside(config: Any) -> Any:
  """Returns the combination study on the model of another study, whose base model it shares.

  Args:
    config: the other study's; `combine` holds what is not there already.
  """
  shared = ("data", "seed", "seeds", "mesh", "compute_dtype")
  # Equal fields give the base model an equal stage, which does not run twice.
  made = ConfigDict({**{field: config[field] for field in shared}, "teacher": config.model,
                     "study": "experiments.studies.combo.study.run"})
  made.base = config.base
  made.weights = config.get("weights") or ""
  made.update(config.combine)
  # Where the user finds the parts, for messages.
  made.of_study = {part: f"combine.{part}" for part in config.combine}
  made.of_study.update({"teacher": "model"})
  return made.lock()


class Combinations(base.Study):
  """One seed of the study.

  A stage's name is its techniques in order, joined by "+"; "fisher" factorizes too, and
  "tune" trains what was factorized. Beside those there are
  "conventional", the student without a teacher, and "lrtf-delta3" and
  "kd+lrtf-delta3", which are factorized to another rank.
  """

  def check(self) -> None:
    """Raises as `check_models` does: for models, and for ranks that they cannot have."""
    check_models(self.config, self.builder)

  @property
  def names(self) -> Sequence[str]:
    return selected(self.config)

  @property
  def more(self) -> Sequence[str]:
    """The student without a teacher (Figure 3), and the factorized models of Figure 5."""
    c, names = self.config, []
    if c.get("conventional"):
      # Figure 4 is drawn beside Figure 3: the same student with a teacher.
      names += ["conventional", "kd"]
    for start in ("lrtf-delta", "kd+lrtf-delta"):
      names += [f"{start}{delta}" for delta in c.get("deltas") or ()]
    return names

  def parent(self, name: str) -> str | None:
    if name in ("base", "conventional"):
      return None
    # Combinations share their beginnings: "kd+imp+q" starts from "kd+imp".
    return "+".join(name.split("+")[:-1]) or "base"

  def spec(self, name: str) -> Mapping[str, Any]:
    c, technique = self.config, name.split("+")[-1]
    if name == "base":
      return self.base_spec(c.teacher, c.base)
    if name == "conventional":
      return {"model": c.student.to_dict(), "recipe": c.kd.train.to_dict()}
    if technique.startswith("lrtf-delta"):
      # The rank is in the stage's name.
      return {"model": self._model(name).to_dict()}
    return {"technique": technique, "recipe": c[_PART.get(technique, technique)].to_dict(),
            "model": self._model(name).to_dict()}

  def _model(self, name: str) -> Any:
    return self.config.student if name.startswith("kd") else self.config.teacher

  def row(self, name: str) -> dict[str, Any]:
    """Returns a stage's row, with its quality beside the base model's."""
    row = super().row(name)
    return {**row, **quality.columns(row, self.result("base").metrics)}

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c, technique = self.config, name.split("+")[-1]
    if name == "conventional":
      return self.teach(c.student, c.kd, work, log)
    if name == "base":
      return self.teach(c.teacher, c.base, work, log, c.get("weights") or "")
    parent = self.trained(self.parent(name))
    if technique == "kd":
      return self.distil(parent, c.student, c.kd, work, log, temperature=c.kd.temperature,
                         alpha=c.kd.alpha)
    if technique == "imp":
      return techniques.prune_iteratively(
          parent, self.data, self.recipe(c.imp), work, log, stream=name, fraction=c.imp.fraction,
          tolerance=c.imp.tolerance, rounds=c.imp.rounds)
    if technique.startswith("lrtf-delta"):
      return techniques.factorize(parent, rank=0, delta=int(technique.removeprefix("lrtf-delta")))
    if technique in ("lrtf", "fisher"):
      fisher = techniques.information(parent, self.data.train) if technique == "fisher" else None
      return techniques.factorize(parent, rank=c.lrtf.rank, delta=c.lrtf.delta, fisher=fisher)
    if technique == "tune":
      return techniques.finetune(parent, self.data, self.recipe(c.imp), work, log, stream=name)
    return techniques.quantize(parent, self.data, bits=c.q.bits,
                               activation_bits=c.q.activation_bits, images=c.q.images)


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, Combinations, check, report.write)

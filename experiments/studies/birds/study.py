"""Birds of 525 species: "Comparative analysis of distillation, quantization and pruning"."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.studies import seeds, timed
from experiments.studies.birds import report
from experiments.studies.birds.config import GRID, check
from experiments.training import techniques
from experiments.training.progress import Log

STUDENTS = ("squeezenet", "squeezenet-kd", "studentnet", "studentnet-kd")


class Birds(timed.Timed):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    """The teachers, then what Tables I and II, Figures 3 and 4, and Table III show."""
    c = self.config
    # From scratch only there is one way to train the teacher: the base model's.
    others = ["head", "scratch"] if c.weights else []
    names = ["base", *others, "quantized", *STUDENTS]
    for kind in c.prune.grid:
      names += [f"{kind}-{number}" for number in range(1, c.prune.rounds + 1)]
    return names

  def parent(self, name: str) -> str | None:
    if name in ("base", "head", "scratch", "squeezenet", "studentnet"):
      return None
    kind, _, number = name.rpartition("-")
    if kind in GRID and number != "1":
      return f"{kind}-{int(number) - 1}"
    return "base"

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    if name == "head":
      return {**self.base_spec(c.model, c.base), "only": "head"}
    if name == "scratch":
      # Not the base's specification, which has the weights that it starts from.
      return {"model": c.model.to_dict(), "recipe": c.base.to_dict()}
    if name == "quantized":
      return {"images": c.images}
    if name in STUDENTS:
      return self._student_spec(name)
    scope, penalty, number = name.split("-")
    return {"recipe": c.prune.train.to_dict(), "scope": scope, "fraction": c.prune.fraction,
            "round": int(number), penalty: c.prune[penalty]}

  def _student_spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    spec = {"model": self._student(name).to_dict(), "recipe": c.students.to_dict()}
    if name.endswith("-kd"):
      spec |= {"temperature": c.temperature, "alpha": c.alpha}
    return spec

  def _student(self, name: str) -> Any:
    return self.config[name.removesuffix("-kd")]

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log, c.weights)
    if name == "scratch":
      return self.teach(c.model, c.base, work, log)
    if name == "head":
      recipe = dataclasses.replace(self.recipe(c.base), only="head")
      return techniques.teach(c.model.name, self.arguments(c.model), self.data, recipe, work, log,
                              c.weights)
    if name == "quantized":
      return techniques.quantize(self.trained("base"), self.data, bits=8, activation_bits=8,
                                 images=c.images)
    if name not in STUDENTS:
      return self._pruned(name, work, log)
    if name.endswith("-kd"):
      return self.distil(self.trained("base"), self._student(name), c.students, work, log,
                         temperature=c.temperature, alpha=c.alpha)
    return self.teach(self._student(name), c.students, work, log)

  def _pruned(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Prunes a fraction of what is left, then trains with the penalty."""
    part, (scope, penalty, number) = self.config.prune, name.split("-")
    parent = self.trained(self.parent(name))
    sparsity = 1 - (1 - part.fraction) ** int(number)
    # Of all weights: masks that are there stay, and count.
    pruned = parent.with_params(cj.prune.magnitude(parent.params, sparsity, scope=scope))
    recipe = dataclasses.replace(self.recipe(part), **{penalty: part[penalty]})
    return techniques.finetune(pruned, self.data, recipe, work, log, stream=name)

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, float]:
    """Times one image through the models of Table I, and no other.

    Args:
      name: the stage's.
      trained: its model.
    """
    return super().measure(name, trained) if name in ("base", "quantized") else {}


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, Birds, check, report.write)

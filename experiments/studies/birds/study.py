"""Birds of 525 species: "Comparative analysis of distillation, quantization and pruning"."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.studies import base
from experiments.studies.birds import report as birds_report
from experiments.training import techniques
from experiments.training.progress import Log

GRID = ("layer-l1", "layer-l2", "global-l1", "global-l2")
STUDENTS = ("squeezenet", "squeezenet-kd", "studentnet", "studentnet-kd")


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it; writes its tables. See `base.run`."""
  check(config)
  studies, rows = base.run(Birds, config, workdir, data_dir)
  histories = {name: studies[0].result(name).metrics["history"] for name in STUDENTS}
  birds_report.write(rows, workdir, config, histories)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  limits = {"alpha": (0, 1), "temperature": (1e-3, 1e3), "data.side": (32, 4096),
            "prune.fraction": (0.001, 0.999), "prune.rounds": (1, 1000), "prune.l1": (0, 1),
            "prune.l2": (0, 1), **dict.fromkeys(("images", "calls", "seeds"), (1, 10**9))}
  base.check(config, limits)
  for kind in config.prune.grid:
    if kind not in GRID:
      raise ValueError(f"config.prune.grid: {kind!r} may be one of {', '.join(GRID)}")
  if config.weights and not os.path.isfile(config.weights):
    raise ValueError(f"config.weights={config.weights!r}: no such file; it may be a .pth or "
                     ".safetensors file of torchvision's resnet50")


class Birds(base.Study):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    """The teachers, then what Tables I and II, Figures 3 and 4, and Table III show."""
    c, others = self.config, ("head", "scratch") if self.config.weights else ()
    pruned = [f"{kind}-{i}" for kind in c.prune.grid for i in range(1, c.prune.rounds + 1)]
    return ["base", *others, "quantized", *STUDENTS, *pruned]

  def parent(self, name: str) -> str | None:
    if name in ("base", "head", "scratch", "squeezenet", "studentnet"):
      return None
    kind, _, number = name.rpartition("-")
    return f"{kind}-{int(number) - 1}" if kind in GRID and number != "1" else "base"

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name in ("base", "head"):
      return {**self.base_spec(c.model, c.base), **({"only": "head"} if name == "head" else {})}
    if name == "scratch":
      return {"model": c.model.to_dict(), "recipe": c.base.to_dict()}
    if name == "quantized":
      return {"images": c.images}
    if name in STUDENTS:
      taught = {"temperature": c.temperature, "alpha": c.alpha} if name.endswith("-kd") else {}
      return {"model": self._student(name).to_dict(), "recipe": c.students.to_dict(), **taught}
    scope, penalty, number = name.split("-")
    return {"recipe": c.prune.train.to_dict(), "scope": scope, "fraction": c.prune.fraction,
            "round": int(number), penalty: c.prune[penalty]}

  def _student(self, name: str) -> Any:
    return self.config[name.removesuffix("-kd")]

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name in ("base", "head", "scratch"):
      recipe = dataclasses.replace(self.recipe(c.base), only="head" if name == "head" else "")
      return techniques.teach(c.model.name, self.arguments(c.model), self.data, recipe, work, log,
                           "" if name == "scratch" else c.weights)
    if name == "quantized":
      return techniques.quantize(self.trained("base"), self.data, bits=8, activation_bits=8,
                              images=c.images)
    if name not in STUDENTS:
      return self._pruned(name, work, log)
    model, recipe = self._student(name), self.recipe(c.students)
    if not name.endswith("-kd"):
      return techniques.teach(model.name, self.arguments(model), self.data, recipe, work, log)
    return techniques.distil(self.trained("base"), model.name, self.arguments(model), self.data,
                          recipe, work, log, temperature=c.temperature, alpha=c.alpha)

  def _pruned(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Prunes a fraction of what is left, then trains with the penalty."""
    part, (scope, penalty, number) = self.config.prune, name.split("-")
    parent, sparsity = self.trained(self.parent(name)), 1 - (1 - part.fraction) ** int(number)
    params = cj.prune.magnitude(parent.variables["params"], sparsity, scope=scope)
    pruned = dataclasses.replace(parent, variables={**parent.variables, "params": params})
    recipe = dataclasses.replace(self.recipe(part), **{penalty: part[penalty]})
    return techniques.finetune(pruned, self.data, recipe, work, log)

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, float]:
    """Times one image through the models of Table I."""
    if name not in ("base", "quantized"):
      return {}
    return {"milliseconds": techniques.milliseconds(trained, self.data, calls=self.config.calls)}

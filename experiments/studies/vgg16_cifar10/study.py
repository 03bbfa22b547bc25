"""VGG-16 on CIFAR-10: the study of "Report on model compression"."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.studies import base
from experiments.studies.vgg16_cifar10 import report as vgg16_report
from experiments.training import techniques
from experiments.training.progress import Log

PARENTS = {"base": None, "sparse": "base", "pruned": "sparse", "finetuned": "pruned",
           "quantized16": "base", "quantized8": "base", "distilled": "base"}


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it; writes its tables. See `base.run`."""
  check(config)
  _, rows = base.run(VGG16, config, workdir, data_dir)
  vgg16_report.write(rows, workdir, config)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  for ratio in (config.ratio, *config.ratios):
    if not 0 <= ratio < 1:
      raise ValueError(f"config.ratios: {ratio} may be from 0 to below 1")
  base.check(config, {"temperature": (1e-3, 1e3), "alpha": (0, 1),
                       **dict.fromkeys(("images", "calls", "seeds"), (1, 10**9))})


class VGG16(base.Study):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    """The tables' models, then the ratios of Figure 6."""
    return [*PARENTS, *(f"ratio{r:g}" for r in self.config.ratios)]

  def parent(self, name: str) -> str | None:
    return PARENTS.get(name, "sparse")

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    fields = {"sparse": ("sparse",), "pruned": ("ratio",), "finetuned": ("finetune",),
              "distilled": ("distil", "temperature", "alpha", "student"),
              "quantized8": ("images",)}.get(name, ())
    return self.fields(*fields)

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    parent = self.trained(self.parent(name))
    if name in ("sparse", "finetuned"):
      part = c.sparse if name == "sparse" else c.finetune
      return techniques.finetune(parent, self.data, self.recipe(part), work, log)
    if name == "distilled":
      return techniques.distil(parent, c.student.name, self.arguments(c.student), self.data,
                            self.recipe(c.distil), work, log, temperature=c.temperature,
                            alpha=c.alpha)
    if name == "quantized8":
      return techniques.quantize(parent, self.data, bits=8, activation_bits=8, images=c.images)
    if name == "quantized16":
      return techniques.halve(parent), {}
    ratio = c.ratio if name == "pruned" else float(name.removeprefix("ratio"))
    params = cj.prune.magnitude(parent.variables["params"], ratio)
    return dataclasses.replace(parent, variables={**parent.variables, "params": params}), {}

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, float]:
    """Times one image through the deployed model, as the paper does."""
    return {"milliseconds": techniques.milliseconds(trained, self.data, calls=self.config.calls)}

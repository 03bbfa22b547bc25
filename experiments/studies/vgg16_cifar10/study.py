"""VGG-16 on CIFAR-10: the study of "Report on model compression"."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.studies import seeds, timed
from experiments.studies.vgg16_cifar10 import report
from experiments.studies.vgg16_cifar10.config import check
from experiments.training import techniques
from experiments.training.progress import Log

PARENTS = {"base": None, "sparse": "base", "pruned": "sparse", "finetuned": "pruned",
           "quantized16": "base", "quantized8": "base", "distilled": "base"}

# Fields of the configuration that a stage depends on.
_FIELDS = {"sparse": ("sparse",), "pruned": ("ratio",), "finetuned": ("finetune",),
           "distilled": ("distil", "temperature", "alpha", "student"), "quantized8": ("images",)}


class VGG16(timed.Timed):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    """The tables' models, then the ratios of Figure 6."""
    return [*PARENTS, *(f"ratio{r}" for r in self.config.ratios)]

  def parent(self, name: str) -> str | None:
    return PARENTS.get(name, "sparse")

  def spec(self, name: str) -> Mapping[str, Any]:
    if name == "base":
      return self.base_spec(self.config.model, self.config.base)
    # A ratio is in its stage's name, and 16 bits leave nothing to choose.
    return self.fields(*_FIELDS.get(name, ()))

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    parent = self.trained(self.parent(name))
    if name == "sparse":
      return techniques.finetune(parent, self.data, self.recipe(c.sparse), work, log, stream=name)
    if name == "finetuned":
      return techniques.finetune(parent, self.data, self.recipe(c.finetune), work, log, stream=name)
    if name == "distilled":
      return self.distil(parent, c.student, c.distil, work, log, temperature=c.temperature,
                         alpha=c.alpha)
    if name == "quantized8":
      return techniques.quantize(parent, self.data, bits=8, activation_bits=8, images=c.images)
    if name == "quantized16":
      return techniques.halve(parent), {}
    ratio = c.ratio if name == "pruned" else float(name.removeprefix("ratio"))
    return parent.with_params(cj.prune.magnitude(parent.params, ratio)), {}


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, VGG16, check, report.write)

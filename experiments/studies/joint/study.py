"""All techniques in one training, beside the serial pipeline with as many epochs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.studies import base, seeds
from experiments.studies.joint import report
from experiments.studies.joint.config import SERIAL, check
from experiments.training import techniques
from experiments.training.progress import Log
from experiments.training.recipe import Joint, Recipe

PARENTS = {"base": None, "kd": "base", "kd+imp": "kd", "kd+imp+q": "kd+imp", "joint": "base"}

# Fields of the configuration that a student's stage depends on, beside those of all students.
_FIELDS = {
    "kd": ("kd",), "kd+imp": ("imp", "sparsity"),
    "kd+imp+q": ("q", "bits", "activation_bits", "images"),
    "joint": ("joint", "kd", "imp", "q", "sparsity", "bits", "activation_bits", "images")}
_EVERY = ("student", "temperature", "alpha")


class JointStudy(base.Study):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    return list(PARENTS)

  def parent(self, name: str) -> str | None:
    return PARENTS[name]

  def spec(self, name: str) -> Mapping[str, Any]:
    if name == "base":
      return self.base_spec(self.config.model, self.config.base)
    return self.fields(*_FIELDS[name], *_EVERY)

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    parent = self.trained(PARENTS[name])
    guided = {"temperature": c.temperature, "alpha": c.alpha}
    if name == "kd":
      return self.distil(parent, c.student, c.kd, work, log, **guided)
    if name == "joint":
      return techniques.joint(parent, c.student.name, self.arguments(c.student), self.data,
                              self._joint_recipe(), work, log, images=c.images,
                              answers=self.answers, **guided)
    # As in the joint training, the teacher guides what comes after distillation too.
    guide = techniques.guide(self.trained("base"), **guided, answers=self.answers)
    if name == "kd+imp":
      pruned = parent.with_params(cj.prune.magnitude(parent.params, c.sparsity))
      return techniques.finetune(pruned, self.data, self.recipe(c.imp), work, log, stream=name,
                                 teacher=guide)
    return techniques.quantize_aware(parent, self.data, self.recipe(c.q), work, log, stream=name,
                                     bits=c.bits, activation_bits=c.activation_bits,
                                     images=c.images, teacher=guide)

  def _joint_recipe(self) -> Recipe:
    """Returns the recipe of the joint training: as many epochs as the serial parts together."""
    c = self.config
    parts = [self.recipe(c[part]) for part in SERIAL]
    how = Joint(sparsity=c.sparsity, bits=c.bits, activation_bits=c.activation_bits,
                schedule=c.joint.schedule, start=c.joint.start, stop=c.joint.stop,
                every=c.joint.every)
    return dataclasses.replace(parts[0], epochs=sum(part.epochs for part in parts), joint=how,
                               learning_rate=c.joint.learning_rate, field="joint.learning_rate")

  def row(self, name: str) -> dict[str, Any]:
    """Returns a row: also the epochs of training behind a student, its teacher's not counted."""
    if name == "base":
      return {**super().row(name), "epochs": 0}
    parts = SERIAL if name == "joint" else name.split("+")
    epochs = sum(self.config[part].train.epochs for part in parts)
    return {**super().row(name), "epochs": epochs}


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, JointStudy, check, report.write)

"""All techniques in one training, beside the serial pipeline with as many epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from compress_jax.io import files
from experiments.reporting import report
from experiments.studies import base
from experiments.training import loop, techniques
from experiments.training.progress import Log, say

PARENTS = {"base": None, "kd": "base", "kd+imp": "kd", "kd+imp+q": "kd+imp", "joint": "base"}
_SERIAL = ("kd", "imp", "q")


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it; writes its report. See `base.run`."""
  check(config)
  _, rows = base.run(Both, config, workdir, data_dir)
  report.write(rows, workdir, config)
  text = table(rows)
  files.write(workdir / "joint.md", text)
  say(text)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  limits = {"sparsity": (0, 0.999), "bits": (2, 8), "activation_bits": (2, 8), "alpha": (0, 1),
            "temperature": (1e-3, 1e3), "images": (1, 10**9), "seeds": (1, 10**4)}
  base.check(config, limits)
  steps = {config[part].train.steps_per_epoch for part in _SERIAL}
  batches = {config[part].train.batch_size for part in _SERIAL}
  if len(steps) > 1 or len(batches) > 1:
    raise ValueError("config.kd, config.imp, config.q: steps_per_epoch and batch_size may not "
                     "differ, or epochs could not be compared")


class Both(base.Study):
  """One seed of the study."""

  @property
  def names(self) -> Sequence[str]:
    return list(PARENTS)

  def parent(self, name: str) -> str | None:
    return PARENTS[name]

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    fields = {"kd": ("kd",), "kd+imp": ("imp", "sparsity"),
              "kd+imp+q": ("q", "bits", "activation_bits", "images"),
              "joint": ("joint", "kd", "imp", "q", "sparsity", "bits", "activation_bits",
                        "images")}[name]
    fields += ("student", "temperature", "alpha")
    return self.fields(*fields)

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    parent = self.trained(PARENTS[name])
    guided = {"temperature": c.temperature, "alpha": c.alpha}
    if name == "kd":
      return techniques.distil(parent, c.student.name, self.arguments(c.student), self.data,
                            self.recipe(c.kd), work, log, **guided)
    if name == "joint":
      return techniques.joint(parent, c.student.name, self.arguments(c.student), self.data,
                           self._joint_recipe(), work, log, images=c.images, **guided)
    guide = techniques.guide(self.trained("base"), **guided)
    if name == "kd+imp":
      params = cj.prune.magnitude(parent.variables["params"], c.sparsity)
      pruned = dataclasses.replace(parent, variables={**parent.variables, "params": params})
      return techniques.finetune(pruned, self.data, self.recipe(c.imp), work, log, teacher=guide)
    return techniques.quantize_aware(parent, self.data, self.recipe(c.q), work, log, bits=c.bits,
                                  activation_bits=c.activation_bits, images=c.images,
                                  teacher=guide)

  def _joint_recipe(self) -> loop.Recipe:
    """Returns the recipe of the joint training: as many epochs as the serial parts together."""
    c = self.config
    parts = [self.recipe(c[part]) for part in _SERIAL]
    how = loop.Joint(sparsity=c.sparsity, bits=c.bits, activation_bits=c.activation_bits,
                      schedule=c.joint.schedule, start=c.joint.start, stop=c.joint.stop,
                      every=c.joint.every)
    return dataclasses.replace(parts[0], epochs=sum(p.epochs for p in parts), joint=how,
                               learning_rate=c.joint.learning_rate)

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, Any]:
    """Returns the epochs of training behind a student, its teacher's not counted."""
    parts = _SERIAL if name == "joint" else () if name == "base" else name.split("+")
    return {"epochs": sum(self.config[p].train.epochs for p in parts)}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns joint.md: both ways to the same student, as Markdown."""
  lines = ["| model | epochs | test accuracy, % | zeros, % | file, kB | seconds |",
           "|" + "---|" * 6]
  for r in report.means(rows):
    spread = "" if r["spread"] is None else f" ± {100 * r['spread']:.2f}"
    lines.append(f"| {r['combo']} | {r['epochs']:.0f} | {100 * r['test_accuracy']:.2f}{spread} | "
                 f"{100 * (1 - r['nonzero_params'] / r['params']):.1f} | "
                 f"{r['artifact_bytes'] / 1000:,.1f} | {r['seconds']:,.0f} |")
  lines += ["", "Seconds are those of all stages behind a model, its teacher's too."]
  return "\n".join(lines) + "\n"

"""VGG-16 on CIFAR-10: the study of "Report on model compression"."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import compress_jax as cj
from experiments import data as data_lib
from experiments import evaluate, recipes, study, train, vgg16_report
from experiments.progress import Log

PARENTS = {"base": None, "sparse": "base", "pruned": "sparse", "finetuned": "pruned",
           "quantized16": "base", "quantized8": "base", "distilled": "base"}

_SHOWN = ("test_accuracy", "val_accuracy", "params", "nonzero_params", "dense_bytes",
          "nonzero_bytes", "gzip_bytes", "artifact_bytes", "milliseconds", "seconds")


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it, and writes its tables.

  Args:
    config: from `configs/vgg16_cifar10.py`.
    workdir: where stages and results go.
    data_dir: see `data.builder`.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration cannot be used; the message names it.
  """
  check(config)
  builder = data_lib.builder(config.data.name, data_dir)
  rows = []
  for seed in range(config.seed, config.seed + config.seeds):
    one = VGG16(config, workdir, builder, seed)
    rows += [one.row(name) for name in one.names]
  vgg16_report.write(rows, workdir, config)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  for ratio in (config.ratio, *config.ratios):
    if not 0 <= ratio < 1:
      raise ValueError(f"config.ratios: {ratio} may be from 0 to below 1")
  for field in ("temperature", "alpha", "images", "calls", "seeds"):
    low, high = {"alpha": (0, 1), "temperature": (1e-3, 1e3)}.get(field, (1, 10**9))
    if not low <= config[field] <= high:
      raise ValueError(f"config.{field}={config[field]}: may be from {low} to {high}")


class VGG16(study.Study):
  """One seed of the study."""

  @property
  def names(self) -> list[str]:
    """The stages: the tables' models, then the ratios of Figure 6."""
    return [*PARENTS, *(f"ratio{r:g}" for r in self.config.ratios)]

  def row(self, name: str) -> dict[str, Any]:
    """Returns a stage's row of results.csv."""
    result, base = self.result(name), self.result("base").metrics
    kept = {k: result.metrics[k] for k in _SHOWN}
    return {"combo": name, "seed": self.seed, **kept,
            "reduction": 1 - kept["artifact_bytes"] / base["dense_bytes"],
            "artifact": str((result.directory / "model.cjx").relative_to(self.workdir))}

  def stage(self, name: str) -> cj.stages.Stage:
    """Returns a stage; its parents are those whose result it starts from."""
    c = self.config
    parent = PARENTS.get(name, "sparse")
    part = {"base": "base", "sparse": "sparse", "finetuned": "finetune",
            "distilled": "distil"}.get(name)
    spec = {"what": name, "seed": self.seed, "data": c.data.to_dict(),
            "model": c.model.to_dict(), "calls": c.calls,
            "recipe": c[part].to_dict() if part else None}
    extra = {"pruned": ("ratio",), "distilled": ("temperature", "alpha", "student"),
             "quantized16": ("images",), "quantized8": ("images",)}.get(name, ())
    values = {k: c[k].to_dict() if hasattr(c[k], "to_dict") else c[k] for k in extra}
    return cj.stages.Stage(name=name, spec={**spec, **values}, data=self.fingerprint,
                           parent=parent and self.stage(parent))

  @functools.cache  # noqa: B019 (one object a seed)
  def result(self, name: str) -> cj.stages.Result:
    """Returns a stage's result, after running what is missing before it."""
    stage = self.stage(name)
    if stage.parent and cj.stages.find(stage, self.workdir) is None:
      self.result(stage.parent.name)
    done = cj.stages.run(stage, self.workdir, functools.partial(self._work, name))
    # The state of training is kept until the stage is complete, not longer.
    shutil.rmtree(done.directory / "work", ignore_errors=True)
    return done

  def _work(self, name: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    log = Log(name, directory / "log.txt")
    trained, extra = self._made(name, directory / "work", log)
    metrics = {**self.deploy(trained, directory), **self._milliseconds(trained), **extra}
    log.say(f"test {metrics['test_accuracy']:.4f}, {metrics['artifact_bytes']:,} bytes")
    return trained.variables, metrics

  def _made(self, name: str, work: Path, log: Log) -> recipes.Outcome:
    c = self.config
    if name == "base":
      return recipes.teach(c.model.name, c.model.arguments.to_dict(), self.data,
                           self.recipe(c.base), work, log)
    parent = self._trained(PARENTS.get(name, "sparse"))
    if name in ("sparse", "finetuned"):
      part = c.sparse if name == "sparse" else c.finetune
      fit = train.fit(parent.model, parent.variables, self.data, self.recipe(part),
                      directory=work, log=log)
      return dataclasses.replace(parent, variables=fit.variables), {"history": fit.history}
    if name == "distilled":
      return recipes.distil(parent, c.student.name, c.student.arguments.to_dict(), self.data,
                            self.recipe(c.distil), work, log, temperature=c.temperature,
                            alpha=c.alpha)
    if name.startswith("quantized"):
      bits = int(name.removeprefix("quantized"))
      return recipes.quantize(parent, self.data, bits=bits, activation_bits=bits,
                              images=c.images)
    ratio = c.ratio if name == "pruned" else float(name.removeprefix("ratio"))
    params = cj.prune.magnitude(parent.variables["params"], ratio)
    return dataclasses.replace(parent, variables={**parent.variables, "params": params}), {}

  def _trained(self, name: str) -> recipes.Trained:
    c = self.config.model
    return recipes.Trained(name=c.name, arguments=c.arguments.to_dict(),
                           variables=self.result(name).load())

  def _milliseconds(self, trained: recipes.Trained) -> Mapping[str, float]:
    """Times one image through the deployed model, as the paper does."""
    program = evaluate.logits_program(trained.model, trained.lifted)
    variables = cj.freeze(trained.variables)
    variables = variables if trained.lifted else cj.dense(variables)
    image = jnp.asarray(self.data.test.images[:1])
    times = cj.metrics.latency(program, variables, image, calls=self.config.calls)
    return {"milliseconds": 1e3 * times[1].median}

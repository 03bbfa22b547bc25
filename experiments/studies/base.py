"""What studies have in common: named stages, each made from another one, for every seed."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.datasets import builders
from experiments.training import techniques
from experiments.training.augment import Augment
from experiments.training.loop import Recipe
from experiments.training.progress import Log, say

SIZES = ("params", "nonzero_params", "dense_bytes", "nonzero_bytes", "gzip_bytes",
         "artifact_bytes")


class Study:
  """One seed of a study.

  A study says by `names`, `parent`, `spec` and `make` what its stages are;
  "base" is the model that the others are compared with.

  Attributes:
    config: from a file in `configs/`; `config.data` has name, validation, limit.
    workdir: where stages are.
    results: where the report is; paths in its rows start there.
    seed: of everything that is random.
    fingerprint: of the data, for stages.
    stages_run: so many were not complete before.
  """

  def __init__(self, config: Any, workdir: Path, builder: Any, seed: int,
               results: Path | None = None):
    self.config, self.workdir, self.builder, self.seed = config, workdir, builder, seed
    self.results, self.stages_run = results or workdir, 0
    self.fingerprint = builders.fingerprint(builder)
    self._done: dict[str, cj.stages.Result] = {}

  @property
  def names(self) -> Sequence[str]:
    """The stages that the report has a row of."""
    raise NotImplementedError

  def parent(self, name: str) -> str | None:
    """Returns the stage that a stage starts from."""
    raise NotImplementedError

  def spec(self, name: str) -> Mapping[str, Any]:
    """Returns what a stage depends on, beside its parent, the data and the seed."""
    raise NotImplementedError

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Makes a stage's model; `work` is for what training keeps until it is complete."""
    raise NotImplementedError

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, Any]:
    """Returns what is measured beside accuracies and sizes; rows have it too."""
    return {}

  @functools.cached_property
  def data(self) -> builders.Data:
    """The data set, read at first use."""
    c = self.config.data
    return builders.load(self.builder, validation=c.validation, seed=self.seed,
                         limit=c.limit or None)

  def recipe(self, part: Any) -> Recipe:
    """Returns how a part of the configuration trains."""
    t = part.train
    return Recipe(epochs=t.epochs, batch_size=t.batch_size,
                  steps_per_epoch=t.steps_per_epoch or None, learning_rate=t.learning_rate,
                  final_learning_rate=t.final_learning_rate, seed=self.seed,
                  l1=t.get("l1", 0.0), l2=t.get("l2", 0.0),
                  augment=Augment(**self.config.data.augment.to_dict()))

  def arguments(self, model: Any) -> dict[str, Any]:
    """Returns the arguments of a model of the configuration."""
    return {**model.arguments.to_dict(), "dtype": self.config.compute_dtype}

  def base_spec(self, model: Any, part: Any) -> dict[str, Any]:
    """Returns what a base model depends on, which is the same in every study."""
    start = {"weights": self.weights} if self.weights else {}
    return {"technique": "base", "model": model.to_dict(), "recipe": part.to_dict(), **start}

  def fields(self, *names: str) -> dict[str, Any]:
    """Returns fields of the configuration, as a stage's specification has them."""
    values = {name: self.config[name] for name in names}
    return {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in values.items()}

  def teach(self, model: Any, part: Any, work: Path, log: Log, weights: str = "") -> Any:
    """Trains a model of the configuration as a part of it says; see `techniques.teach`."""
    return techniques.teach(model.name, self.arguments(model), self.data, self.recipe(part), work,
                         log, weights)

  @functools.cached_property
  def weights(self) -> str:
    """Hash of the file that the base model starts from, or "": it starts from scratch."""
    path = self.config.get("weights") or ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] if path else ""

  def stage(self, name: str) -> cj.stages.Stage:
    """Returns a stage."""
    parent = self.parent(name)
    spec = {**self.spec(name), "seed": self.seed, "data": self.config.data.to_dict(),
            "compute_dtype": self.config.compute_dtype}
    return cj.stages.Stage(name=name, spec=spec, parent=parent and self.stage(parent),
                           data=self.fingerprint)

  def result(self, name: str) -> cj.stages.Result:
    """Returns a stage's result, after running what is missing before it."""
    if name not in self._done:
      stage = self.stage(name)
      known = cj.stages.find(stage, self.workdir)
      if known is None:
        if stage.parent:
          self.result(stage.parent.name)
        self.stages_run += 1
        known = cj.stages.run(stage, self.workdir, functools.partial(self._work, name))
      # The state of training is kept until the stage is complete, not longer.
      shutil.rmtree(known.directory / "work", ignore_errors=True)
      self._done[name] = known
    return self._done[name]

  def trained(self, name: str) -> techniques.Trained:
    """Returns the model at the end of a stage."""
    result = self.result(name)
    return techniques.Trained(**result.metrics["trained"], variables=result.load())

  def row(self, name: str) -> dict[str, Any]:
    """Returns a stage's row of results.csv."""
    result, base = self.result(name), self.result("base").metrics
    metrics = result.metrics
    seconds = sum(self.result(s.name).metrics["seconds"] for s in result.stage.lineage())
    artifact = os.path.relpath(result.directory / "model.cjx", self.results)
    return {"combo": name, "seed": self.seed, "test_accuracy": metrics["test_accuracy"],
            "val_accuracy": metrics["val_accuracy"], **{k: metrics[k] for k in SIZES},
            **metrics["measured"], "artifact": artifact, "seconds": round(seconds, 1),
            "reduction": round(1 - metrics["artifact_bytes"] / base["dense_bytes"], 6)}

  def _work(self, name: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    """Makes, deploys and measures one stage."""
    log = Log(name, directory / "log.txt")
    log.say(f"starts (seed {self.seed})")
    trained, details = self.make(name, directory / "work", log)
    metrics = {**self.deploy(trained, directory, combo=name), **details,
               "measured": dict(self.measure(name, trained))}
    log.say(f"test {metrics['test_accuracy']:.4f}, "
            f"artifact {metrics['artifact_bytes']:,} bytes")
    return trained.variables, metrics

  def deploy(self, trained: techniques.Trained, directory: Path, **metadata: Any) -> dict[str, Any]:
    """Writes a stage's artifact, and returns its accuracies, sizes and what it is."""
    # As a resumed study reads it from metrics.json: the same bytes in the artifact.
    arguments = json.loads(json.dumps(dict(trained.arguments), sort_keys=True))
    about = {"name": trained.name, "arguments": arguments,
             "num_classes": trained.num_classes, "lifted": trained.lifted}
    size = cj.artifact.save(
        directory / "model.cjx", trained.variables, model=trained.name,
        arguments=arguments, lifted=trained.lifted, num_classes=trained.num_classes,
        data=self.config.data.name, **metadata)
    params, nonzero = cj.count(trained.variables["params"])
    measured = cj.size(trained.variables, artifact_bytes=size)
    return {"val_accuracy": trained.accuracy(self.data.validation),
            "test_accuracy": trained.accuracy(self.data.test), "params": params,
            "nonzero_params": nonzero, "dense_bytes": measured.dense,
            "nonzero_bytes": measured.nonzero, "gzip_bytes": measured.gzip,
            "artifact_bytes": size, "trained": about}


def check(config: Any, limits: Mapping[str, tuple[float, float]]) -> None:
  """Raises a ValueError that names the first number outside its limits.

  Args:
    config: a study's configuration.
    limits: {field: (lowest, highest)}; a field within a part is "part.field".
  """
  for field, (low, high) in limits.items():
    value = functools.reduce(lambda part, key: part[key], field.split("."), config)
    if not low <= value <= high:
      raise ValueError(f"config.{field}={value}: may be from {low} to {high}")


def run(kind: Callable[..., Study], config: Any, workdir: Path, data_dir: str | None,
        results: Path | None = None) -> tuple[list[Study], list[dict[str, Any]]]:
  """Runs a study for every seed, or what is missing of it.

  Args:
    kind: a subclass of `Study`.
    config: from a file in `configs/`; has seed and seeds.
    workdir: where stages go.
    data_dir: see `data.builder`.
    results: where the report will be; None is the workdir.

  Returns:
    The studies, one a seed, and the rows of results.csv.

  Raises:
    ValueError: something in the configuration, the data or a file cannot be used;
      the message names it.
  """
  builder = builders.builder(config.data.name, data_dir, config.data.get("side"))
  studies = [kind(config, workdir, builder, seed, results)
             for seed in range(config.seed, config.seed + config.seeds)]
  rows = [study.row(name) for study in studies for name in study.names]
  trained = sum(study.stages_run for study in studies)
  say(f"stages run now: {trained}; the rest was complete in {workdir}")
  return studies, rows

"""What the studies of one seed have in common: data, training recipes, deploying a stage."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments import data as data_lib
from experiments import recipes
from experiments.augment import Augment
from experiments.train import Recipe


class Study:
  """One seed of a study.

  Attributes:
    config: from a file in `configs/`; `config.data` has name, validation, limit.
    workdir: where stages and results go.
    seed: of everything that is random.
    fingerprint: of the data, for stages.
  """

  def __init__(self, config: Any, workdir: Path, builder: Any, seed: int):
    self.config, self.workdir, self.builder, self.seed = config, workdir, builder, seed
    self.fingerprint = data_lib.fingerprint(builder)

  @functools.cached_property
  def data(self) -> data_lib.Data:
    """The data set, read at first use."""
    c = self.config.data
    return data_lib.load(self.builder, validation=c.validation, seed=self.seed,
                         limit=c.limit or None)

  def recipe(self, part: Any) -> Recipe:
    """Returns how a part of the configuration trains."""
    t = part.train
    return Recipe(epochs=t.epochs, batch_size=t.batch_size,
                  steps_per_epoch=t.steps_per_epoch or None, learning_rate=t.learning_rate,
                  final_learning_rate=t.final_learning_rate, seed=self.seed,
                  l1=t.get("l1", 0.0), augment=Augment(**self.config.data.augment.to_dict()))

  def deploy(self, trained: recipes.Trained, directory: Path, **metadata: Any) -> dict[str, Any]:
    """Writes a stage's artifact, and returns its accuracies and sizes."""
    size = cj.artifact.save(
        directory / "model.cjx", trained.variables, model=trained.name,
        arguments=dict(trained.arguments), lifted=trained.lifted,
        num_classes=data_lib.NUM_CLASSES, data=self.config.data.name, **metadata)
    params, nonzero = cj.count(trained.variables["params"])
    measured = cj.size(trained.variables)
    return {"val_accuracy": trained.accuracy(self.data.validation),
            "test_accuracy": trained.accuracy(self.data.test), "params": params,
            "nonzero_params": nonzero, "dense_bytes": measured.dense,
            "nonzero_bytes": measured.nonzero, "gzip_bytes": measured.gzip,
            "artifact_bytes": size}

"""What studies make their stages of: the parts of a configuration, and what they stand for."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import Any

from experiments.datasets import builders
from experiments.datasets.splits import Data
from experiments.studies import recipes
from experiments.training import techniques
from experiments.training.answers import Answers
from experiments.training.progress import Log
from experiments.training.recipe import Recipe


class Ingredients:
  """Data, recipes and models of one seed's configuration, and the trainings that they make.

  Attributes:
    config: from a file in `configs/`; `config.data` has name, validation, limit.
    builder: of the data set.
    seed: of everything that is random.
    answers: what teachers said, for the next student.
  """

  config: Any
  builder: Any
  seed: int
  answers: Answers

  @functools.cached_property
  def data(self) -> Data:
    """The data set, read at first use."""
    part = self.config.data
    # A study whose stages are all complete never gets here, and reads no images.
    return builders.load(self.builder, validation=part.validation, seed=self.seed,
                         limit=part.limit or None)

  def recipe(self, part: Any) -> Recipe:
    """Returns how a part of the configuration trains.

    Args:
      part: has `train`, as `configs.common.train` makes it.
    """
    return recipes.recipe(part.train, self.config.data.augment, seed=self.seed,
                          field=f"{self.field(part)}.train.learning_rate",
                          fsdp=self.config.mesh.fsdp)

  def field(self, part: Any) -> str:
    """Returns where a part is in the configuration that the user gave, for messages.

    Args:
      part: an object of the configuration, such as `config.base`.
    """
    own = self.config.get("of_study") or {}  # of a study beside another one
    for name, value in self.config.items():
      if value is part:
        return own.get(name, name)
    return "PART"

  def arguments(self, model: Any) -> dict[str, Any]:
    """Returns what `models.create` takes for a model of the configuration.

    Args:
      model: has `arguments`, as `configs.common.model` makes it.
    """
    return {**model.arguments.to_dict(), "dtype": self.config.compute_dtype}

  def base_spec(self, model: Any, part: Any) -> dict[str, Any]:
    """Returns the specification of a base model, the same in every study, so that they share it.

    Args:
      model: of the configuration.
      part: of the configuration, says how it trains.
    """
    spec = {"technique": "base", "model": model.to_dict(), "recipe": part.to_dict()}
    if self.weights:
      spec["weights"] = self.weights
    return spec

  def fields(self, *names: str) -> dict[str, Any]:
    """Returns fields of the configuration, as a stage's specification has them.

    Args:
      *names: of fields at the top of the configuration.
    """
    found = {}
    for name in names:
      value = self.config[name]
      found[name] = value.to_dict() if hasattr(value, "to_dict") else value
    return found

  def teach(self, model: Any, part: Any, work: Path, log: Log,
            weights: str = "") -> techniques.Outcome:
    """Trains a model of the configuration on the labels; see `techniques.teach`.

    Args:
      model: of the configuration.
      part: of the configuration, says how it trains.
      work: where training keeps its state.
      log: of the stage.
      weights: a file of weights to start from, or "".
    """
    return techniques.teach(model.name, self.arguments(model), self.data, self.recipe(part), work,
                            log, weights)

  def distil(self, teacher: techniques.Trained, model: Any, part: Any, work: Path, log: Log, *,
             temperature: float, alpha: float) -> techniques.Outcome:
    """Trains a model of the configuration on a teacher's logits; see `techniques.distil`.

    Args:
      teacher: the model to learn from.
      model: of the configuration, the student.
      part: of the configuration, says how it trains.
      work: where training keeps its state.
      log: of the stage.
      temperature: of the soft targets.
      alpha: weight of the soft targets.
    """
    return techniques.distil(teacher, model.name, self.arguments(model), self.data,
                             self.recipe(part), work, log, temperature=temperature, alpha=alpha,
                             answers=self.answers)

  @functools.cached_property
  def weights(self) -> str:
    """Hash of the file that the base model starts from, or "": it starts from scratch."""
    path = self.config.get("weights") or ""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12] if path else ""

"""A model at some stage of a study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments import models
from experiments.datasets.splits import Data
from experiments.training import evaluate, loop

_ROUNDS = 5  # of timing, of which the quietest counts
_FITTED = 5000  # images that weights are computed from where a model wants that


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """A model at some stage.

  Attributes:
    name: in the zoo.
    arguments: of `models.create`, JSON-able, without num_classes.
    num_classes: length of the logits.
    variables: {"params", maybe "batch_stats"}; params may hold leaves.
    lifted: whether it runs by `cj.lift`'s rules (in integers).
  """

  name: str
  arguments: Mapping[str, Any]
  num_classes: int
  variables: Any
  lifted: bool = False

  @property
  def model(self) -> Any:
    """The zoo model."""
    return models.create(self.name, num_classes=self.num_classes, **self.arguments)

  @property
  def params(self) -> Any:
    """Its parameters, which may hold leaves."""
    return self.variables["params"]

  def with_params(self, params: Any) -> Trained:
    """Returns the model with other parameters; its batch statistics stay.

    Args:
      params: with or without leaves.
    """
    return dataclasses.replace(self, variables={**self.variables, "params": params})

  def accuracy(self, split: Any) -> float:
    """Returns its accuracy on a split, 0 to 1.

    Args:
      split: the images and labels; see `splits.Split`.
    """
    return evaluate.accuracy(self.model, self.variables, split, self.lifted)


# A model, and what its stage keeps in metrics.json.
Outcome = tuple[Trained, dict[str, Any]]


def fresh(name: str, arguments: Mapping[str, Any], data: Data, seed: int) -> Trained:
  """Returns a freshly initialized zoo model for a data set.

  Args:
    name: in the zoo.
    arguments: of `models.create`.
    data: says the images' shape and the number of classes.
    seed: of the initial values.
  """
  made = Trained(name=name, arguments=arguments, num_classes=data.num_classes, variables=None)
  model = made.model
  variables = loop.initial(model, data.train.shape, seed)
  if hasattr(model, "fitted"):
    # Some weights are not drawn but computed from images, of the training split alone.
    images = data.train.read(np.arange(min(_FITTED, len(data.train))))
    variables = model.fitted(variables, images)
  return dataclasses.replace(made, variables=variables)


def milliseconds(trained: Trained, data: Data, *, calls: int, batch: int = 1) -> float:
  """Returns the median time of a call of a deployed model, in the quietest of some rounds.

  Args:
    trained: the model; it runs as it would be deployed.
    data: the images come from its test split, again and again where it has fewer.
    calls: timed calls of a round.
    batch: images per call.

  Returns:
    Milliseconds.
  """
  # One program for all calls; freezing and making dense are not timed.
  program = evaluate.logits_program(trained.model, trained.lifted)
  variables = cj.freeze(trained.variables)
  if not trained.lifted:
    variables = cj.dense(variables)
  images = jnp.asarray(data.test.read(np.arange(batch) % len(data.test)))
  # What else runs on a machine makes whole rounds slower, which would pass for the model's time.
  rounds = [cj.metrics.latency(program, variables, images, batches=[batch], calls=calls)[batch]
            for _ in range(_ROUNDS)]
  return 1e3 * min(times.median for times in rounds)

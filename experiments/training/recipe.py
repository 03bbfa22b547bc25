"""How a model is trained, whom it learns from, and what training gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from experiments.training.augment import Augment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Joint:
  """Pruning and quantization that go on while the model trains, in the same step.

  Attributes:
    sparsity: of the kernels at the end, 0 to 1.
    bits: of the weights; their grids follow them, step by step.
    activation_bits: of the layers' inputs, each on its own range.
    schedule: from 0 to `sparsity`: "linear", "cosine" or "cubic".
    start: when pruning starts, as a fraction of all steps.
    stop: when it ends; only epochs that end later may be kept.
    every: steps from one pruning to the next.
  """

  sparsity: float
  bits: int
  activation_bits: int = 8
  schedule: str = "cubic"
  start: float = 0.1
  stop: float = 0.6
  every: int = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How to train.

  Attributes:
    epochs: at most so many; the best one by validation accuracy is kept.
    batch_size: images per step.
    steps_per_epoch: None is one pass over the training set.
    learning_rate: Adam's at the first step.
    final_learning_rate: at the last step, reached by half a cosine.
    l1: weight of the sum of absolute weights in the loss.
    l2: weight of half the sum of squared weights.
    seed: of the order of the images and of the augmentation.
    augment: what is done to training images.
    only: name of the one layer that is trained, at the top of the parameters; "" is
      all. Statistics of batch norms follow the data all the same.
    aware: whether layers' inputs are rounded while training, and grids follow
      the weights; parameters hold the leaves that do so (`cj.quantize`).
    joint: pruning and quantization on the way, or None.
    field: of the configuration, sets the learning rate; for messages.
  """

  epochs: int
  batch_size: int = 128
  steps_per_epoch: int | None = None
  learning_rate: float = 1e-3
  final_learning_rate: float = 1e-7
  l1: float = 0.0
  l2: float = 0.0
  seed: int = 0
  augment: Augment = dataclasses.field(default_factory=Augment)
  only: str = ""
  aware: bool = False
  joint: Joint | None = None
  field: str = "learning_rate"

  @property
  def hint(self) -> str:
    """What to do where training stops being finite."""
    return f"lower --config.{self.field} ({self.learning_rate:g} now)"

  @property
  def first_kept(self) -> int:
    """The first epoch, counted from 1, that may be the result."""
    if self.joint is None:
      return 1
    # An earlier epoch would be less sparse than what was asked for.
    return min(self.epochs, int(self.joint.stop * self.epochs) + 1)

  def steps(self, images: int) -> int:
    """Returns the number of steps of an epoch.

    Args:
      images: number of training images.
    """
    return self.steps_per_epoch or max(1, images // self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
  """What a student learns from; see `cj.distill.hinton`.

  Attributes:
    model: a zoo model.
    variables: its dense variables.
    temperature: by which both models' logits are divided, above 0.
    alpha: weight of the soft targets, 0 to 1.
  """

  model: nn.Module
  variables: Any
  temperature: float
  alpha: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
  """What training gave.

  Attributes:
    variables: of the best epoch.
    accuracy: its validation accuracy, 0 to 1.
    history: one dict per epoch: loss, accuracy, val_loss, val_accuracy,
      images_per_second.
  """

  variables: Any
  accuracy: float
  history: list[Mapping[str, float]]

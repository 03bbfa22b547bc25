"""How a model is trained, whom it learns from, and what training gives."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from flax import linen as nn

from experiments.training.answers import Answers
from experiments.training.augment import Augment
from experiments.training.draws import Draws
from experiments.training.optimizers import Optimizer, Rule


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

  def done(self, steps: int) -> int:
    """Returns the first step, counted from 0, of the sparsity that is asked for.

    Args:
      steps: of the whole training; the last one prunes at the latest.
    """
    return min(math.ceil(self.stop * steps), steps - 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """What of a recipe is compiled into its steps, whose numbers are traced.

  Attributes:
    optimizer: its kind.
    schedule: of the learning rate, one of `schedules.KINDS`.
    smooths: whether labels are smoothed.
    averages: whether weights are averaged.
  """

  optimizer: Rule = dataclasses.field(default_factory=Rule)
  schedule: str = "cosine"
  smooths: bool = False
  averages: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How to train.

  Attributes:
    epochs: at most so many; the best one by validation accuracy is kept.
    batch_size: images per step.
    steps_per_epoch: None is one pass over the training set.
    learning_rate: the optimizer's at the first step, or the highest of "one_cycle".
    final_learning_rate: what it comes down to; the step after the last would have it.
    schedule: from one to the other, one of `schedules.KINDS`.
    warmup: fraction of all steps in which "one_cycle" rises, 0 to below 1.
    optimizer: what makes steps of gradients.
    label_smoothing: probability that is spread over all classes, 0 to 1.
    ema: of the weights and the batch norms' statistics, how much of the average stays
      after a step, 0 to below 1; above 0 the average is evaluated and kept.
    l1: weight of the sum of absolute weights in the loss.
    l2: weight of half the sum of squared weights.
    seed: of the order of the images and of the augmentation.
    stream: names a training that goes on from a trained model; see `Draws`.
    views: epochs after which the same images come again in the same order, augmented alike: a
      teacher answers only once for each; 0 is never, as without a teacher. Where flips
      alternate, an odd number lets images be mirrored alike in the last of them and the first
      that comes again.
    augment: what is done to training images.
    only: name of the one layer that is trained, at the top of the parameters; "" is
      all. Statistics of batch norms follow the data all the same.
    aware: whether layers' inputs are rounded while training, and grids follow
      the weights; parameters hold the leaves that do so (`cj.quantize`).
    joint: pruning and quantization on the way, or None.
    fsdp: devices that share the parameters; see `devices.mesh`.
    field: of the configuration, sets the learning rate; for messages.
  """

  epochs: int
  batch_size: int = 128
  steps_per_epoch: int | None = None
  learning_rate: float = 1e-3
  final_learning_rate: float = 1e-7
  schedule: str = "cosine"
  warmup: float = 0.2
  optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
  label_smoothing: float = 0.0
  ema: float = 0.0
  l1: float = 0.0
  l2: float = 0.0
  seed: int = 0
  stream: str = ""
  views: int = 0
  augment: Augment = dataclasses.field(default_factory=Augment)
  only: str = ""
  aware: bool = False
  joint: Joint | None = None
  fsdp: int = 1
  field: str = "learning_rate"

  @property
  def method(self) -> Method:
    """What of it is compiled in."""
    return Method(optimizer=self.optimizer.rule, schedule=self.schedule,
                  smooths=self.label_smoothing > 0, averages=self.ema > 0)

  @property
  def draws(self) -> Draws:
    """What chance decides in it."""
    return Draws(self.seed, self.stream)

  @property
  def refits(self) -> bool:
    """Whether grids follow the weights, step by step."""
    return self.aware or self.joint is not None

  @property
  def hint(self) -> str:
    """What to do where training stops being finite."""
    return f"lower --config.{self.field} ({self.learning_rate:g} now)"

  def first_kept(self, steps: int) -> int:
    """Returns the first epoch, counted from 1, that may be the result.

    Args:
      steps: of an epoch.
    """
    if self.joint is None:
      return 1
    # An earlier epoch would be less sparse than what was asked for.
    return self.joint.done(steps * self.epochs) // steps + 1

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
    answers: its logits that are known already, for students of the same data set.
  """

  model: nn.Module
  variables: Any
  temperature: float
  alpha: float
  answers: Answers = dataclasses.field(default_factory=lambda: Answers(0))


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

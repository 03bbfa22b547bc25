"""The training loop: many steps a compiled call, resumable after every epoch."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import compress_jax as cj
from experiments.datasets.builders import Data
from experiments.training import devices, evaluate, input_pipeline
from experiments.training.augment import Augment
from experiments.training.progress import Bar, Log
from experiments.training.step import ADAM, steps_program

_KEPT = ("trainable", "rest", "stats")


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
    epochs: at most so many; the best by validation accuracy is kept.
    batch_size: images a step.
    steps_per_epoch: None is one pass over the training set.
    learning_rate: Adam's at the first step.
    final_learning_rate: at the last, by half a cosine.
    l1: weight of the sum of absolute weights in the loss.
    l2: weight of half the sum of squared weights.
    seed: of the order of the images and of the augmentation.
    augment: what is done to training images.
    only: name of the one layer that is trained, at the top of the parameters; "" is
      all. Statistics of batch norms follow the data all the same.
    aware: whether layers' inputs are rounded while training, and grids follow
      the weights; parameters hold the leaves that do so (`cj.quantize`).
    joint: pruning and quantization on the way, or None.
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

  @property
  def first_kept(self) -> int:
    """The first epoch, from 1, that may be the result."""
    return 1 if self.joint is None else min(self.epochs, int(self.joint.stop * self.epochs) + 1)

  def steps(self, images: int) -> int:
    """Returns the steps of an epoch over so many images."""
    return self.steps_per_epoch or max(1, images // self.batch_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Teacher:
  """What a student learns from; see `cj.distill.hinton`.

  Attributes:
    model: a zoo model.
    variables: its dense variables.
    temperature: T.
    alpha: weight of the soft term.
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
    accuracy: its validation accuracy.
    history: a dict an epoch: loss, accuracy, val_loss, val_accuracy, images_per_second.
  """

  variables: Any
  accuracy: float
  history: list[Mapping[str, float]]


def initial(model: nn.Module, shape: tuple[int, ...], seed: int) -> Any:
  """Returns freshly initialised variables for images of this (height, width, channels)."""
  init = jax.jit(functools.partial(model.init, train=False))
  return init(random_key(seed), jnp.zeros((1, *shape), jnp.float32))


def random_key(seed: int) -> jax.Array:
  """Returns a key of the generator that compiles fastest (threefry: 6 times slower)."""
  return jax.random.key(seed, impl="rbg")


def fit(model: nn.Module, variables: Any, data: Data, recipe: Recipe, *, directory: Path,
        log: Log, teacher: Teacher | None = None, target: float = float("inf")) -> Fit:
  """Trains, and keeps the best epoch by validation accuracy.

  Args:
    model: a zoo model.
    variables: {"params", maybe "batch_stats"} to start from; params may hold leaves.
    data: train is trained on, validation selects.
    recipe: how.
    directory: where the state is kept after every epoch; training goes on from
      what is there.
    log: of the stage.
    teacher: whom to learn from.
    target: stop as soon as the validation accuracy is at least this.

  Returns:
    The best epoch's variables and the history.
  """
  trainer = _Trainer(model, data, recipe, teacher)
  state, best, history = _resume(directory, start_state(variables, recipe.only), recipe)
  state = devices.everywhere(state, trainer.mesh)
  for epoch in range(len(history), recipe.epochs):
    if _best(history, recipe) >= target:
      break
    state, sums = trainer.epoch(state, epoch, f"{log.label} {epoch + 1}/{recipe.epochs}")
    val_loss, val = evaluate.loss_and_accuracy(model, trainer.variables(state), data.validation)
    if val > _best(history, recipe):
      best = {k: jax.tree.map(jnp.copy, state[k]) for k in _KEPT}
    history.append({**sums, "val_loss": val_loss, "val_accuracy": val})
    log.say(f"epoch {epoch + 1}/{recipe.epochs}  loss {sums['loss']:.4f}  accuracy "
            f"{sums['accuracy']:.4f}  validation {val:.4f}  "
            f"{sums['images_per_second']:,.0f} images/s")
    _keep(directory, {"state": state, "best": best}, history)
  return Fit(variables=trainer.variables(best), history=history,
             accuracy=max(0.0, _best(history, recipe)))


def _best(history: list[Any], recipe: Recipe) -> float:
  """Returns the best validation accuracy of the epochs that may be kept."""
  kept = history[recipe.first_kept - 1:]
  return max((h["val_accuracy"] for h in kept), default=-1.0)


class _Trainer:
  """A model, what feeds it, and the compiled steps."""

  def __init__(self, model: nn.Module, data: Data, recipe: Recipe, teacher: Teacher | None):
    self.recipe, self.steps = recipe, recipe.steps(len(data.train))
    self.mesh, self.count = devices.mesh(recipe.batch_size), len(data.train)
    self.feed = input_pipeline.of(data.train, self.mesh, recipe.batch_size)
    self.program = _program(model, teacher, recipe)
    self.teacher = devices.everywhere(teacher and teacher.variables, self.mesh)
    self.numbers = {"steps": float(self.steps * recipe.epochs), "first": recipe.learning_rate,
                    "last": recipe.final_learning_rate, "l1": recipe.l1, "l2": recipe.l2,
                    "temperature": teacher.temperature if teacher else 1.0,
                    "alpha": teacher.alpha if teacher else 0.0,
                    **_joint_numbers(recipe, self.steps)}

  def variables(self, state: Any) -> Any:
    """Returns the model's variables in a state."""
    params = cj.merge(state["trainable"], state["rest"])
    return {"params": params, **({"batch_stats": state["stats"]} if state["stats"] else {})}

  def epoch(self, state: Any, epoch: int, label: str) -> tuple[Any, dict[str, float]]:
    """Returns the state after an epoch, and the epoch's means."""
    key = jax.random.fold_in(random_key(self.recipe.seed), epoch)
    key = devices.everywhere(key, self.mesh)
    numbers = {**self.numbers, "start": float(epoch * self.steps)}
    size, loss, correct = self.recipe.batch_size, 0.0, 0
    with Bar(label, self.steps, size) as bar:
      for first, last, data in self.feed.calls(self._order(epoch)):
        state, sums = self.program(state, {**data, "key": key}, numbers, self.teacher, first, last)
        loss, correct = loss + float(sums["loss"]), correct + int(sums["correct"])
        bar.update(last, loss / last, correct / (last * size))
    return state, {"loss": loss / self.steps, "accuracy": correct / (self.steps * size),
                   "images_per_second": round(bar.images_per_second, 1)}

  def _order(self, epoch: int) -> np.ndarray:
    return input_pipeline.order(self.count, self.steps, self.recipe.batch_size,
                                [self.recipe.seed, epoch])


def _program(model: nn.Module, teacher: Teacher | None, recipe: Recipe) -> Any:
  guide = teacher and teacher.model
  if recipe.joint is None:
    return steps_program(model, guide, recipe.augment, recipe.aware)
  return steps_program(model, guide, recipe.augment, True, recipe.joint.schedule)


def _joint_numbers(recipe: Recipe, steps: int) -> dict[str, Any]:
  if recipe.joint is None:
    return {}
  joint, total = recipe.joint, steps * recipe.epochs
  return {"sparsity": joint.sparsity, "every": joint.every,
          "prune_from": joint.start * total, "prune_to": joint.stop * total}


def start_state(variables: Any, only: str = "") -> Any:
  """Returns the state of training at its first step: trainable, rest, stats, adam.

  Args:
    variables: {"params", maybe "batch_stats"}.
    only: see `Recipe`.

  Raises:
    ValueError: there is no such layer.
  """
  trainable, rest = _frozen(*cj.partition(variables["params"]), only)
  # Copies, because the compiled steps take their state's memory over.
  copy = functools.partial(jax.tree.map, lambda x: jnp.array(x, copy=True))
  return {"trainable": copy(trainable), "rest": copy(rest),
          "stats": copy(variables.get("batch_stats", {})), "adam": ADAM.init(trainable)}


def _frozen(trainable: Any, rest: Any, only: str) -> tuple[Any, Any]:
  """Returns what trains and the rest, where one layer trains only."""
  if not only:
    return trainable, rest
  if only not in trainable:
    raise ValueError(f"only={only!r}: may be one of {', '.join(trainable)}")
  whole = cj.merge(trainable, rest)
  nothing = lambda layer: jax.tree.map(lambda x: None, layer)
  return ({k: v if k == only else nothing(v) for k, v in trainable.items()},
          {k: rest[k] if k == only else v for k, v in whole.items()})


def _keep(directory: Path, tree: Any, history: list[Any]) -> None:
  """Saves the state under the epoch's number, then drops what came before."""
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / f"epoch-{len(history):04d}"
  cj.checkpoint.save(path, jax.tree.leaves(tree), history=history)
  for old in directory.glob("epoch-*"):
    if old != path:
      shutil.rmtree(old, ignore_errors=True)


def _resume(directory: Path, start: Any, recipe: Recipe) -> tuple[Any, Any, list[Any]]:
  """Returns (state, best, history) of the last complete epoch, or the start."""
  best = {k: start[k] for k in _KEPT}
  # Not a checkpoint that was being written, or replaced.
  kept = sorted((p for p in directory.glob("epoch-*") if p.suffix == ""),
                key=lambda p: int(p.name.removeprefix("epoch-")))
  if not kept:
    return start, best, []
  leaves, metadata = cj.checkpoint.load(kept[-1])
  structure = jax.tree.structure({"state": start, "best": best})
  tree = jax.tree.unflatten(structure, leaves)
  return tree["state"], tree["best"], metadata["history"]

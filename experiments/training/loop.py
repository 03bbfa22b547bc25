"""The training loop: many steps in every compiled call, resumable after every epoch."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

import compress_jax as cj
from experiments import faults, hosts
from experiments.datasets.splits import Data
from experiments.training import (
    answers,
    averages,
    devices,
    evaluate,
    input_pipeline,
    kept,
    optimizers,
)
from experiments.training.draws import random_key
from experiments.training.progress import Bar, Log
from experiments.training.recipe import Fit, Method, Recipe, Teacher
from experiments.training.step import steps_program

_KEPT = ("trainable", "rest", "stats")  # of the best epoch; the optimizer's state is not needed


def initial(model: nn.Module, shape: tuple[int, ...], seed: int) -> Any:
  """Returns a model's freshly initialized variables.

  Args:
    model: a zoo model.
    shape: (height, width, channels) of an image.
    seed: of the initial values.

  Returns:
    {"params", maybe "batch_stats"}, float32.
  """
  init = jax.jit(functools.partial(model.init, train=False))
  return init(random_key(seed), jnp.zeros((1, *shape), jnp.float32))


def fit(model: nn.Module, variables: Any, data: Data, recipe: Recipe, *, directory: Path,
        log: Log, teacher: Teacher | None = None, target: float = float("inf")) -> Fit:
  """Trains, and keeps the best epoch by validation accuracy.

  Args:
    model: a zoo model.
    variables: {"params", maybe "batch_stats"} to start from; params may hold leaves.
    data: train is trained on, validation selects.
    recipe: how to train.
    directory: where the state is kept after every epoch; training goes on from
      what is there.
    log: of the stage.
    teacher: whom to learn from, or None for the labels alone.
    target: stop as soon as the validation accuracy is at least this.

  Returns:
    The best epoch's variables and the history.

  Raises:
    NotFinite: a loss or a weight is NaN or infinite after an epoch, which is not kept.
    ValueError: `recipe.only` names no layer, or a kept state is damaged.
  """
  with faults.stoppable(functools.partial(_position, directory, log.label, recipe.epochs)):
    return _fit(_Trainer(model, data, recipe, teacher), variables, data, recipe, directory, log,
                target)


def _fit(trainer: _Trainer, variables: Any, data: Data, recipe: Recipe, directory: Path, log: Log,
         target: float) -> Fit:
  """Does what `fit` says."""
  start = start_state(variables, recipe.only, frozen_of(trainer.model), recipe.method)
  begin = {"state": start, "best": {part: start[part] for part in _KEPT}}
  found, history = kept.resume(directory, begin)
  first = recipe.first_kept(trainer.steps)
  if 0 < len(history) < recipe.epochs and _best(history, first) < target:
    log.say(f"resumes at epoch {len(history) + 1}/{recipe.epochs}")
  state, best = devices.placed((found["state"], found["best"]), trainer.mesh)
  with kept.Keeper(directory) as keeper:
    for epoch in range(len(history), recipe.epochs):
      if _best(history, first) >= target:
        break
      state, means = trainer.epoch(state, epoch, f"{log.label} {epoch + 1}/{recipe.epochs}")
      reached = averages.result(state, recipe.refits)
      val_loss, val = trainer.validate(reached)
      history.append({**means, "val_loss": val_loss, "val_accuracy": val})
      if len(history) in (_best_epoch(history, first), *range(first)):
        # A copy, because the next step takes the state's memory over.
        best = {part: jax.tree.map(jnp.copy, reached[part]) for part in _KEPT}
      _report(log, history, recipe)
      # Before it is kept: what is not finite never becomes so again.
      faults.check_epoch(f"epoch {epoch + 1}/{recipe.epochs}", history[-1], state, recipe.hint)
      keeper.keep({"state": state, "best": best}, history)
  return Fit(variables=hosts.own(trainer.variables(best)), history=history,
             accuracy=max(0.0, _best(history, first)))


def _report(log: Log, history: list[Any], recipe: Recipe) -> None:
  last = history[-1]
  log.say(f"epoch {len(history)}/{recipe.epochs}  loss {last['loss']:.4f}  accuracy "
          f"{last['accuracy']:.4f}  validation {last['val_accuracy']:.4f}  "
          f"{last['images_per_second']:,.0f} images/s")


def _best(history: list[Any], first: int) -> float:
  """Returns the best validation accuracy from the first epoch that may be kept, -1 before it."""
  number = _best_epoch(history, first)
  return history[number - 1]["val_accuracy"] if number else -1.0


def _best_epoch(history: list[Any], first: int) -> int:
  """Returns the number of the best epoch from the first that may be kept, 0 before it.

  Of equal accuracies the smaller loss counts: of few images many epochs have the same, and the
  first of them may be far from the end of the schedule.
  """
  numbers = range(first, len(history) + 1)
  return max(numbers, default=0, key=lambda number: (
      history[number - 1]["val_accuracy"], -history[number - 1]["val_loss"]))


class _Trainer:
  """A model, what feeds it, and the compiled steps."""

  def __init__(self, model: nn.Module, data: Data, recipe: Recipe, teacher: Teacher | None):
    self.model, self.recipe, self.steps = model, recipe, recipe.steps(len(data.train))
    self.mesh = devices.mesh(recipe.batch_size, fsdp=recipe.fsdp)
    self.count, self.validation = len(data.train), data.validation
    self.feed = input_pipeline.of(data.train, self.mesh, recipe.batch_size)
    self.program = _program(model, teacher is not None, recipe, self.mesh)
    self.teacher, self.numbers = teacher, _numbers(recipe, teacher, self.steps)

  def variables(self, state: Any) -> Any:
    """Returns the model's variables in a state."""
    variables = {"params": cj.merge(state["trainable"], state["rest"])}
    if state["stats"]:
      variables["batch_stats"] = state["stats"]
    return variables

  def validate(self, state: Any) -> tuple[float, float]:
    """Returns the loss and the accuracy on the validation images.

    Args:
      state: has "trainable", "rest" and "stats".
    """
    variables = hosts.own(self.variables(state))
    # What is best, and when to stop, must be the same in all processes.
    # Inputs are rounded where training rounds them: by the model that it makes it is judged.
    return hosts.of_first(evaluate.loss_and_accuracy(
        self.model, variables, self.validation, lifted=self.recipe.refits, exact=False))

  def epoch(self, state: Any, epoch: int, label: str) -> tuple[Any, dict[str, float]]:
    """Returns the state after an epoch, and the epoch's means.

    Args:
      state: of training; its memory is taken over.
      epoch: the epoch's number, from 0.
      label: of the progress bar.

    Returns:
      (state, {"loss", "accuracy" of the training images, "images_per_second"}).
    """
    view = epoch % self.recipe.views if self.recipe.views else epoch
    key = devices.everywhere(self.recipe.draws.key(view), self.mesh)
    numbers = {**self.numbers, "start": float(epoch * self.steps)}
    if self.recipe.augment.alternating:
      numbers |= {"epoch": view, "seed": self.recipe.draws.flips}
    size, loss, correct = self.recipe.batch_size, 0.0, 0
    asked = self.teacher and self._asked(view, numbers)
    with Bar(label, self.steps, size) as bar:
      for first, last, data in self.feed.calls(self._order(view)):
        state, sums = self._call(state, {**data, "key": key}, numbers, asked, first, last)
        loss, correct = loss + float(sums["loss"]), correct + int(sums["correct"])
        bar.update(last, loss / last, correct / (last * size))
    if asked:
      asked.keep()
    return state, {"loss": loss / self.steps, "accuracy": correct / (self.steps * size),
                   "images_per_second": round(bar.images_per_second, 1)}

  def _call(self, state: Any, data: Any, numbers: Any, asked: answers.Asked | None, first: int,
            last: int) -> Any:
    """Runs the steps of one call; what it needs is let go of at its end."""
    if asked:
      data["soft"] = devices.spread(asked.about(data, first, last), self.mesh, 1)
    return self.program(state, data, numbers, first, last)

  def _asked(self, view: int, numbers: Any) -> answers.Asked:
    """Returns the teacher, to be asked about an epoch's views of the images."""
    teacher, options, size = self.teacher, self.recipe.augment, self.recipe.batch_size
    variables, program = self._teacher_variables, answers.program(teacher.model, options)
    # All that the views and the teacher's logits depend on, but the data.
    key = (self._teacher_digest, teacher.model, options, self.recipe.draws, view, self.steps, size)
    return answers.Asked(teacher.answers, key, lambda data, first, last: program(
        variables, data, numbers, first, last))

  @functools.cached_property
  def _teacher_variables(self) -> Any:
    return devices.placed(self.teacher.variables, self.mesh)

  @functools.cached_property
  def _teacher_digest(self) -> str:
    return answers.digest(self.teacher.variables)

  def _order(self, view: int) -> np.ndarray:
    # Of the epoch's number, so that a resumed training sees the same images.
    return self.recipe.draws.order(self.count, self.steps, self.recipe.batch_size, view)


def _program(model: nn.Module, taught: bool, recipe: Recipe, on: Mesh | None) -> Any:
  joint = recipe.joint
  # Programs whose devices share no parameters are the same on any mesh.
  spread = on if on is not None and on.shape["fsdp"] > 1 else None
  return steps_program(model, recipe.augment, taught, recipe.aware or joint is not None,
                       joint and joint.schedule, recipe.method, spread)


def _numbers(recipe: Recipe, teacher: Teacher | None, steps: int) -> dict[str, Any]:
  """Returns the numbers of a training, which its compiled steps take as traced values."""
  total = steps * recipe.epochs
  numbers = {"steps": float(total), "first": recipe.learning_rate,
             "last": recipe.final_learning_rate, "l1": recipe.l1, "l2": recipe.l2,
             "temperature": 1.0, "alpha": 0.0, "warmup": recipe.warmup, "ema": recipe.ema,
             "smoothing": recipe.label_smoothing,
             **recipe.optimizer.numbers(recipe.learning_rate)}
  if teacher is not None:
    numbers |= {"temperature": teacher.temperature, "alpha": teacher.alpha}
  if recipe.joint is not None:
    joint = recipe.joint
    numbers |= {"sparsity": joint.sparsity, "every": joint.every,
                "prune_from": joint.start * total, "prune_to": float(joint.done(total))}
  return numbers


def frozen_of(model: nn.Module) -> str:
  """Returns the pattern of the parameters that a model says never train, or "".

  Args:
    model: a zoo model; its attribute `frozen` says so.
  """
  return getattr(model, "frozen", "")


def start_state(variables: Any, only: str = "", frozen: str = "",
                method: Method = Method()) -> Any:  # noqa: B008, it is frozen
  """Returns the state of training at its first step.

  Args:
    variables: {"params", maybe "batch_stats"}.
    only: see `Recipe`.
    frozen: regular expression; parameters whose path it is found in do not train.
    method: says what optimizer the state is for, and whether weights are averaged.

  Returns:
    {"trainable", "rest", "stats", "optimizer", maybe "average"}.

  Raises:
    ValueError: there is no such layer.
  """
  parts = _frozen(*_partition(variables["params"], frozen), only)
  # Copies, because the compiled steps take their state's memory over.
  copy = functools.partial(jax.tree.map, lambda x: jnp.array(x, copy=True))
  state = {"trainable": copy(parts[0]), "rest": copy(parts[1]),
           "stats": copy(variables.get("batch_stats", {})),
           "optimizer": optimizers.start(method.optimizer, parts[0])}
  if method.averages:
    state["average"] = averages.start(state)
  return state


def _partition(params: Any, frozen: str) -> tuple[Any, Any]:
  if not frozen:
    return cj.partition(params)
  return cj.partition(params, lambda path: re.search(frozen, path) is None)


def _frozen(trainable: Any, rest: Any, only: str) -> tuple[Any, Any]:
  """Returns what trains and the rest, where only one layer trains."""
  if not only:
    return trainable, rest
  if only not in trainable:
    raise ValueError(f"only={only!r}: must be one of {', '.join(trainable)}")
  whole = cj.merge(trainable, rest)
  # The structure stays, with None in the place of what does not train; so `cj.merge` works.
  trains = {name: jax.tree.map(lambda x: None, layer) for name, layer in trainable.items()}
  return {**trains, only: trainable[only]}, {**whole, only: rest[only]}


def _position(directory: Path, label: str, epochs: int) -> str:
  """Returns where a training goes on that is stopped now, as its directory tells."""
  done = kept.count(directory)
  if done >= epochs:
    return f"stage {label}, after epoch {done}"
  return f"stage {label}, epoch {done + 1}"

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
import optax
from flax import linen as nn

import compress_jax as cj
from experiments import evaluate
from experiments.augment import Augment, augment
from experiments.data import Data
from experiments.progress import Bar, Log

STEPS_PER_CALL = 50
_adam = optax.scale_by_adam()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """How to train.

  Attributes:
    epochs: at most so many; the best by validation accuracy is kept.
    batch_size: images a step.
    steps_per_epoch: None is one pass over the training set.
    learning_rate: Adam's at the first step.
    final_learning_rate: at the last, by half a cosine.
    seed: of the order of the images and of the augmentation.
    augment: what is done to training images.
  """

  epochs: int
  batch_size: int = 128
  steps_per_epoch: int | None = None
  learning_rate: float = 1e-3
  final_learning_rate: float = 1e-7
  seed: int = 0
  augment: Augment = dataclasses.field(default_factory=Augment)

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
    history: a dict an epoch: loss, accuracy, val_accuracy, images_per_second.
  """

  variables: Any
  accuracy: float
  history: list[Mapping[str, float]]


def initial(model: nn.Module, images: np.ndarray, seed: int) -> Any:
  """Returns freshly initialised variables for images of this shape."""
  shape = (1, *images.shape[1:])
  init = jax.jit(functools.partial(model.init, train=False))
  return init(random_key(seed), jnp.zeros(shape, jnp.float32))


def random_key(seed: int) -> jax.Array:
  """Returns a key of the generator that compiles fastest (threefry: 6 times slower)."""
  return jax.random.key(seed, impl="rbg")


def cosine(step: Any, steps: Any, first: Any, last: Any) -> jax.Array:
  """Returns half a cosine from `first` at step 0 to `last` at `steps`; all may be traced."""
  return last + (first - last) * (1 + jnp.cos(jnp.pi * jnp.minimum(step / steps, 1))) / 2


@functools.lru_cache(maxsize=64)
def steps_program(model: nn.Module, teacher: nn.Module | None, options: Augment) -> Any:
  """Returns the compiled function that trains for some steps.

  Every number is traced: one program serves all learning rates, durations,
  temperatures and sparsities of a model.

  Args:
    model: what is trained.
    teacher: whom it learns from, or None for the labels alone.
    options: augmentation.

  Returns:
    run(state, rest, data, numbers, teacher_variables, first, last) -> (state,
    sums), where state is {"trainable", "stats", "adam"} and is donated, data is
    {"images", "labels", "order", "key"}, and sums are of loss and correct answers.
  """
  def loss_fn(trainable: Any, rest: Any, stats: Any, images: Any, labels: Any, numbers: Any,
              teacher_variables: Any) -> Any:
    variables = {"params": cj.dense(cj.merge(trainable, rest)), "batch_stats": stats}
    logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
    if teacher is None:
      loss = cj.distill.cross_entropy(logits, labels)
    else:
      # The teacher sees the same augmented view (Beyer et al. 2022).
      soft = teacher.apply(teacher_variables, images, train=False)
      loss = cj.distill.hinton(logits, soft, labels, temperature=numbers["temperature"],
                               alpha=numbers["alpha"])
    return loss, (new["batch_stats"], (logits.argmax(-1) == labels).sum())

  def step(i: Any, carry: Any, rest: Any, data: Any, numbers: Any, teacher_variables: Any) -> Any:
    state, sums = carry
    index = data["order"][i]
    images = augment(jax.random.fold_in(data["key"], i), data["images"][index], options)
    (loss, (stats, correct)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
        state["trainable"], rest, state["stats"], images, data["labels"][index], numbers,
        teacher_variables)
    updates, adam = _adam.update(grads, state["adam"])
    rate = cosine(numbers["start"] + i, numbers["steps"], numbers["first"], numbers["last"])
    trainable = jax.tree.map(lambda p, u: p - rate * u, state["trainable"], updates)
    return ({"trainable": trainable, "stats": stats, "adam": adam},
            {"loss": sums["loss"] + loss, "correct": sums["correct"] + correct})

  @functools.partial(jax.jit, donate_argnums=0)
  def run(state: Any, rest: Any, data: Any, numbers: Any, teacher_variables: Any, first: Any,
          last: Any) -> Any:
    body = functools.partial(step, rest=rest, data=data, numbers=numbers,
                             teacher_variables=teacher_variables)
    sums = {"loss": jnp.float32(0), "correct": jnp.int32(0)}
    return jax.lax.fori_loop(first, last, body, (state, sums))

  return run


def fit(model: nn.Module, variables: Any, data: Data, recipe: Recipe, *, directory: Path,
        log: Log, teacher: Teacher | None = None, target: float = float("inf")) -> Fit:
  """Trains, and keeps the best epoch by validation accuracy.

  Args:
    model: a zoo model.
    variables: {"params", "batch_stats"} to start from; params may hold leaves.
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
  start = start_state(variables)
  state, best, history = _resume(directory, start, recipe)
  trainer = _Trainer(model, data, recipe, teacher, variables["params"])
  for epoch in range(len(history), recipe.epochs):
    if history and max(h["val_accuracy"] for h in history) >= target:
      break
    state, sums = trainer.epoch(state, epoch, f"{log.label} {epoch + 1}/{recipe.epochs}")
    val = evaluate.accuracy(model, trainer.variables(state), data.validation)
    if not history or val > max(h["val_accuracy"] for h in history):
      best = {k: jax.tree.map(jnp.copy, state[k]) for k in ("trainable", "stats")}
    history.append({**sums, "val_accuracy": val})
    log.say(f"epoch {epoch + 1}/{recipe.epochs}  loss {sums['loss']:.4f}  accuracy "
            f"{sums['accuracy']:.4f}  validation {val:.4f}  "
            f"{sums['images_per_second']:,.0f} images/s")
    _keep(directory, {"state": state, "best": best}, history)
  return Fit(variables=trainer.variables(best), history=history,
             accuracy=max((h["val_accuracy"] for h in history), default=0.0))


class _Trainer:
  """A model, its data on the device, and the compiled steps."""

  def __init__(self, model: nn.Module, data: Data, recipe: Recipe, teacher: Teacher | None,
               params: Any):
    self.rest = cj.partition(params)[1]
    self.recipe, self.steps = recipe, recipe.steps(len(data.train))
    self.images, self.labels = jnp.asarray(data.train.images), jnp.asarray(data.train.labels)
    self.program = steps_program(model, teacher and teacher.model, recipe.augment)
    self.teacher = teacher and teacher.variables
    self.numbers = {"steps": float(self.steps * recipe.epochs), "first": recipe.learning_rate,
                    "last": recipe.final_learning_rate,
                    "temperature": teacher.temperature if teacher else 1.0,
                    "alpha": teacher.alpha if teacher else 0.0}

  def variables(self, state: Any) -> Any:
    """Returns the model's variables in a state."""
    return {"params": cj.merge(state["trainable"], self.rest), "batch_stats": state["stats"]}

  def epoch(self, state: Any, epoch: int, label: str) -> tuple[Any, dict[str, float]]:
    """Returns the state after an epoch, and the epoch's means."""
    data = {"images": self.images, "labels": self.labels, "order": self._order(epoch),
            "key": jax.random.fold_in(random_key(self.recipe.seed), epoch)}
    numbers = {**self.numbers, "start": float(epoch * self.steps)}
    size, loss, correct = self.recipe.batch_size, 0.0, 0
    with Bar(label, self.steps, size) as bar:
      for first in range(0, self.steps, STEPS_PER_CALL):
        last = min(first + STEPS_PER_CALL, self.steps)
        state, sums = self.program(state, self.rest, data, numbers, self.teacher, first, last)
        loss, correct = loss + float(sums["loss"]), correct + int(sums["correct"])
        bar.update(last, loss / last, correct / (last * size))
    return state, {"loss": loss / self.steps, "accuracy": correct / (self.steps * size),
                   "images_per_second": round(bar.images_per_second, 1)}

  def _order(self, epoch: int) -> jax.Array:
    """Returns the images of each step: permutations, one after the other."""
    needed, count = self.steps * self.recipe.batch_size, len(self.labels)
    rng = np.random.default_rng([self.recipe.seed, epoch])
    passes = [rng.permutation(count) for _ in range(-(-needed // count))]
    return jnp.asarray(np.concatenate(passes)[:needed].reshape(self.steps, -1))


def start_state(variables: Any) -> Any:
  """Returns the state of training at its first step: trainable, stats, adam."""
  trainable = cj.partition(variables["params"])[0]
  # Copies, because the compiled steps take their state's memory over.
  copy = functools.partial(jax.tree.map, lambda x: jnp.array(x, copy=True))
  return {"trainable": copy(trainable), "stats": copy(variables["batch_stats"]),
          "adam": _adam.init(trainable)}


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
  best = {k: start[k] for k in ("trainable", "stats")}
  # Not a checkpoint that was being written, or replaced.
  kept = sorted((p for p in directory.glob("epoch-*") if p.suffix == ""),
                key=lambda p: int(p.name.removeprefix("epoch-")))
  if not kept:
    return start, best, []
  leaves, metadata = cj.checkpoint.load(kept[-1])
  structure = jax.tree.structure({"state": start, "best": best})
  tree = jax.tree.unflatten(structure, leaves)
  return tree["state"], tree["best"], metadata["history"]

"""Training on labels, and distillation: training on another model's logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.datasets.splits import Data
from experiments.models import pretrained
from experiments.training import loop
from experiments.training.answers import Answers
from experiments.training.draws import random_key
from experiments.training.progress import Log
from experiments.training.recipe import Recipe, Teacher
from experiments.training.techniques.trained import Outcome, Trained, fresh


def teach(name: str, arguments: Mapping[str, Any], data: Data, recipe: Recipe,
          directory: Path, log: Log, weights: str = "") -> Outcome:
  """Trains a model on the labels, from scratch or from weights in a file.

  Args:
    name: in the zoo.
    arguments: of `models.create`.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.
    weights: a file that `pretrained.load` reads, or "".

  Returns:
    The best epoch's model, and {"history"}.

  Raises:
    ValueError: the file cannot be read, or its tensors are not the model's.
  """
  start = fresh(name, arguments, data, recipe.seed)
  # Views that come again spare a teacher, and would only handicap who learns without one.
  recipe = dataclasses.replace(recipe, views=0)
  if weights:
    # The file's classes are ImageNet's: its last layer is initialized anew.
    loaded = pretrained.load(weights, start.model, head_key=random_key(recipe.seed))
    log.say(f"starts from {weights}; newly initialized: {', '.join(loaded.fresh) or 'nothing'}")
    start = dataclasses.replace(start, variables=loaded.variables)
  return _fitted(start, data, recipe, directory, log)


def finetune(parent: Trained, data: Data, recipe: Recipe, directory: Path, log: Log, *,
             stream: str, teacher: Teacher | None = None) -> Outcome:
  """Trains a model further, its masks and grids in place.

  Args:
    parent: the model to start from.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.
    stream: names this training among those of the model, as its stage does; see `Draws`.
    teacher: whom to learn from, or None for the labels alone.

  Returns:
    The best epoch's model, and {"history"}.
  """
  recipe = dataclasses.replace(recipe, stream=stream)
  return _fitted(parent, data, recipe, directory, log, teacher)


def _fitted(start: Trained, data: Data, recipe: Recipe, directory: Path, log: Log,
            teacher: Teacher | None = None) -> Outcome:
  """Returns a model after training, and {"history"}."""
  fit = loop.fit(start.model, start.variables, data, recipe, directory=directory, log=log,
                 teacher=teacher)
  return dataclasses.replace(start, variables=fit.variables), {"history": fit.history}


def distil(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
           recipe: Recipe, directory: Path, log: Log, *, temperature: float,
           alpha: float, answers: Answers | None = None) -> Outcome:
  """Trains a student from scratch on a teacher's logits.

  Args:
    teacher: the model to learn from.
    name: in the zoo, of the student.
    arguments: of `models.create`, for the student.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.
    temperature: of the soft targets, above 0.
    alpha: weight of the soft targets, 0 to 1.
    answers: the teacher's logits that are known already, and where more are kept.

  Returns:
    The best epoch's student, and {"history"}.
  """
  student = fresh(name, arguments, data, recipe.seed)
  return _fitted(student, data, recipe, directory, log,
                 guide(teacher, temperature=temperature, alpha=alpha, answers=answers))


def guide(teacher: Trained, *, temperature: float, alpha: float,
          answers: Answers | None = None) -> Teacher:
  """Returns what a student learns from a trained model by.

  Args:
    teacher: the model to learn from.
    temperature: of the soft targets, above 0.
    alpha: weight of the soft targets, 0 to 1; see `cj.distill.hinton`.
    answers: its logits that are known already, and where more are kept; None keeps none.
  """
  # Dense once, here, and not whenever the teacher is asked.
  return Teacher(model=teacher.model, variables=cj.dense(teacher.variables),
                 temperature=temperature, alpha=alpha, answers=answers or Answers(0))

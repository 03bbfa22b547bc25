"""Distillation, pruning and quantization in one training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.datasets.splits import Data
from experiments.training import loop
from experiments.training.answers import Answers
from experiments.training.progress import Log
from experiments.training.recipe import Recipe
from experiments.training.techniques.quantizing import calibrated, deployed
from experiments.training.techniques.teaching import guide
from experiments.training.techniques.trained import Outcome, Trained, fresh


def joint(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
          recipe: Recipe, directory: Path, log: Log, *, temperature: float, alpha: float,
          images: int, answers: Answers | None = None) -> Outcome:
  """Distils, prunes and quantizes a student in one training, in one compiled step.

  Every step raises the sparsity by its schedule, puts the weights on grids that
  span them, rounds every layer's input on its own range, and learns from the
  teacher; the input grids are made static at the end. The integration that "An
  analysis of compression methods" (section VIII) names as future work.

  Args:
    teacher: the model to learn from.
    name: in the zoo, of the student.
    arguments: of `models.create`, for the student.
    data: the data.
    recipe: how to train; its `joint` says how to compress.
    directory: where training keeps its state.
    log: of the stage.
    temperature: of the soft targets, above 0.
    alpha: weight of the soft targets, 0 to 1.
    images: about so many calibrate the inputs' static grids.
    answers: the teacher's logits that are known already, and where more are kept.

  Returns:
    The integer model, and {"history", "sparsity"} beside how it differs from the
    fake-quantized one; see `quantizing.deployed`.
  """
  student = fresh(name, arguments, data, recipe.seed)
  # Masks from the first step on, though they mask nothing yet: the state keeps its structure.
  params = cj.prune.magnitude(student.params, 0.0)
  params = cj.quantize.affine(params, recipe.joint.bits)
  params = cj.quantize.dynamic(params, bits=recipe.joint.activation_bits)
  fit = loop.fit(student.model, {**student.variables, "params": params}, data, recipe,
                 directory=directory, log=log,
                 teacher=guide(teacher, temperature=temperature, alpha=alpha, answers=answers))
  trained = dataclasses.replace(student, variables=fit.variables)
  fake = calibrated(trained, trained.params, data, images=images,
                    activation_bits=recipe.joint.activation_bits)
  result, differences = deployed(fake, data)
  sparsity = cj.metrics.sparsity(trained.params)
  return result, {"history": fit.history, "sparsity": sparsity, **differences}

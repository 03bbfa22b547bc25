"""Quantization: static, and quantization-aware training."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments.datasets.splits import Data
from experiments.training import evaluate, loop
from experiments.training.augment import normalize
from experiments.training.progress import Log
from experiments.training.recipe import Recipe, Teacher
from experiments.training.techniques.trained import Outcome, Trained

_COMPARED = 2048  # images that the integer model and the fake-quantized one both see


def quantize(parent: Trained, data: Data, *, bits: int, activation_bits: int,
             images: int) -> Outcome:
  """Static quantization: batch norms folded, weights per channel, inputs per tensor.

  Args:
    parent: the model.
    data: calibration images come from its training split.
    bits: of the weights.
    activation_bits: of the layers' inputs.
    images: about so many calibrate (whole batches of at most `evaluate.BATCH`).

  Returns:
    The integer model, and how it differs from the fake-quantized one; see `deployed`.
  """
  # Folded first: the weights that are rounded must be those that are deployed.
  folded = without_norms(parent)
  params = cj.quantize.affine(folded.params, bits)
  fake = calibrated(folded, params, data, activation_bits=activation_bits, images=images)
  return deployed(fake, data)


def halve(parent: Trained) -> Trained:
  """Returns a model whose kernels are float16; it computes in its own precision.

  Args:
    parent: the model.
  """
  half = parent.with_params(cj.quantize.cast(parent.params, "float16"))
  return dataclasses.replace(half, variables=cj.freeze(half.variables))


def quantize_aware(parent: Trained, data: Data, recipe: Recipe, directory: Path, log: Log, *,
                   stream: str, bits: int, activation_bits: int, images: int,
                   teacher: Teacher | None = None) -> Outcome:
  """Quantization-aware training: norms folded, then trained with weights and inputs rounded.

  Args:
    parent: the trained model.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.
    stream: as in `finetune`.
    bits: of the weights, per channel; their grids follow them.
    activation_bits: of the layers' inputs, each on its own range while training.
    images: about so many calibrate the inputs' static grids at the end.
    teacher: whom to learn from, or None.

  Returns:
    The integer model, and {"history"} beside how it differs; see `deployed`.

  Source: "An analysis of compression methods", section V.A.2.
  """
  folded = without_norms(parent)
  params = cj.quantize.affine(folded.params, bits)
  params = cj.quantize.dynamic(params, bits=activation_bits)
  recipe = dataclasses.replace(recipe, aware=True, stream=stream)
  fit = loop.fit(folded.model, {"params": params}, data, recipe, directory=directory, log=log,
                 teacher=teacher)
  fake = calibrated(folded, fit.variables["params"], data, activation_bits=activation_bits,
                    images=images)
  result, differences = deployed(fake, data)
  return result, {"history": fit.history, **differences}


def without_norms(trained: Trained) -> Trained:
  """Returns the model with its batch norms, if it has any, folded into its layers.

  Args:
    trained: the model; its class has an argument `folded`.
  """
  if "batch_stats" not in trained.variables:
    return trained
  params = cj.fold.batch_norm(trained.params, trained.variables["batch_stats"])
  return dataclasses.replace(trained, variables={"params": params},
                             arguments={**trained.arguments, "folded": True})


def calibrated(trained: Trained, params: Any, data: Data, *, activation_bits: int,
               images: int) -> Trained:
  """Gives a model's fake-quantized parameters static grids for the layers' inputs.

  Args:
    trained: the model.
    params: its fake-quantized parameters.
    data: calibration images come from its training split.
    activation_bits: of the layers' inputs.
    images: about so many calibrate (whole batches of at most `evaluate.BATCH`).

  Returns:
    The model with those parameters, to run by `cj.lift`'s rules.
  """
  # Statistics of batch norms are not parameters, and stay as they are.
  rest = {kind: tree for kind, tree in trained.variables.items() if kind != "params"}
  apply = functools.partial(_apply, trained.model, rest)
  params = cj.quantize.calibrate(apply, params, _batches(data, images), bits=activation_bits)
  return dataclasses.replace(trained, variables={**rest, "params": params}, lifted=True)


def _batches(data: Data, images: int) -> Iterator[jax.Array]:
  """Yields batches of training images, all of one size, so that one program serves them."""
  count = min(images, len(data.train))
  size = min(count, evaluate.BATCH)
  for first in range(0, count - size + 1, size):
    yield jnp.asarray(data.train.read(np.arange(first, first + size)))


def _apply(model: Any, rest: Any, params: Any, images: Any) -> Any:
  return model.apply({**rest, "params": params}, normalize(images), train=False)


def deployed(fake: Trained, data: Data) -> Outcome:
  """Freezes a fake-quantized model.

  Args:
    fake: the model, with grids for the layers' inputs.
    data: the first `_COMPARED` test images are run on both.

  Returns:
    The integer model, and {"compared", "predictions_differ", "logits_differ"}: how many
    images both saw, and on how many of them they differ.
  """
  frozen = dataclasses.replace(fake, variables=cj.freeze(fake.variables))
  # A part of the images: fake-quantized sums that are exact to the last bit take longer than
  # the integers, and accuracies are measured on all of them anyway.
  some = data.test.take(np.arange(min(_COMPARED, len(data.test))))
  # Both by `cj.lift`'s rules, which promise equal bits.
  before = evaluate.logits(fake.model, fake.variables, some, lifted=True)
  after = evaluate.logits(frozen.model, frozen.variables, some, lifted=True)
  return frozen, {
      "compared": len(some),
      "predictions_differ": int((before.argmax(-1) != after.argmax(-1)).sum()),
      "logits_differ": int((before != after).any(-1).sum())}

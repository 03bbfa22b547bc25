"""What the stages of a study do: teach, distil, prune, factorize, quantize."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments import evaluate, models, train
from experiments.augment import normalize
from experiments.data import NUM_CLASSES, Data
from experiments.progress import Log


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trained:
  """A model at some stage.

  Attributes:
    name: in the zoo.
    arguments: of `models.create`, JSON-able, without num_classes.
    variables: {"params", "batch_stats"}; params may hold leaves.
    lifted: whether it runs by `cj.lift`'s rules (in integers).
  """

  name: str
  arguments: Mapping[str, Any]
  variables: Any
  lifted: bool = False

  @property
  def model(self) -> Any:
    """The zoo model."""
    return models.create(self.name, num_classes=NUM_CLASSES, **self.arguments)

  def accuracy(self, split: Any) -> float:
    """Returns its accuracy on a split."""
    return evaluate.accuracy(self.model, self.variables, split, self.lifted)


Outcome = tuple[Trained, dict[str, Any]]


def teach(name: str, arguments: Mapping[str, Any], data: Data, recipe: train.Recipe,
          directory: Path, log: Log) -> Outcome:
  """Trains a model on the labels, from scratch.

  Args:
    name: in the zoo.
    arguments: of `models.create`.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.

  Returns:
    The best epoch's model, and {"history"}.
  """
  empty = Trained(name=name, arguments=arguments, variables=None)
  variables = train.initial(empty.model, data.train.images, recipe.seed)
  fit = train.fit(empty.model, variables, data, recipe, directory=directory, log=log)
  return dataclasses.replace(empty, variables=fit.variables), {"history": fit.history}


def distil(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
           recipe: train.Recipe, directory: Path, log: Log, *, temperature: float,
           alpha: float) -> Outcome:
  """Trains a student from scratch on a teacher's logits; arguments as in `teach`."""
  student = Trained(name=name, arguments=arguments, variables=None)
  variables = train.initial(student.model, data.train.images, recipe.seed)
  guide = train.Teacher(model=teacher.model, variables=cj.dense(teacher.variables),
                        temperature=temperature, alpha=alpha)
  fit = train.fit(student.model, variables, data, recipe, directory=directory, log=log,
                  teacher=guide)
  return dataclasses.replace(student, variables=fit.variables), {"history": fit.history}


def prune_iteratively(parent: Trained, data: Data, recipe: train.Recipe, directory: Path,
                      log: Log, *, fraction: float, tolerance: float, rounds: int,
                      rewind: str = "pretrained") -> Outcome:
  """Prunes round by round for as long as the accuracy comes back.

  Each round masks `fraction` of the weights that are left, puts the others back
  as `rewind` says, and trains until the validation accuracy is within `tolerance`
  of the parent's, or for `recipe.epochs`. The last round that recovered is the
  result.

  Args:
    parent: the pre-trained model.
    data: the data.
    recipe: of the recovery in each round.
    directory: where training keeps its state.
    log: of the stage.
    fraction: of the remaining weights, pruned a round; above 0, below 1.
    tolerance: accuracy, 0 to 1, that may be lost.
    rounds: at most so many.
    rewind: "pretrained" puts the weights back to the parent's (Chen et al. 2020,
      as in "Combinatorics with model compression", section 3.4); "learning_rate"
      keeps them (Renda et al. 2020).

  Returns:
    The sparsest model that recovered, and {"sparsity", "rounds"}.
  """
  target = parent.accuracy(data.validation) - tolerance
  best, fits = parent, []

  def recover(variables: Any, number: int) -> Any:
    fits.append(train.fit(parent.model, variables, data, recipe, target=target,
                          directory=directory / f"round-{number:02d}",
                          log=log.within(f"round {number}")))
    return fits[-1].variables

  done = []
  for sparsity, variables in cj.prune.iterative(
      parent.variables, recover, fraction=fraction, rounds=rounds,
      rewind_to=cj.dense(parent.variables) if rewind == "pretrained" else None):
    fit = fits[-1]
    recovered = fit.accuracy >= target
    done.append({"sparsity": sparsity, "val_accuracy": fit.accuracy, "recovered": recovered,
                 "epochs": len(fit.history), "history": fit.history})
    log.say(f"round {len(done)}: sparsity {sparsity:.3f}, validation {fit.accuracy:.4f}, "
            f"{'recovered' if recovered else 'not recovered'} (target {target:.4f})")
    if not recovered:
      break
    best = dataclasses.replace(parent, variables=variables)
  kept = max((r["sparsity"] for r in done if r["recovered"]), default=0.0)
  return best, {"sparsity": kept, "rounds": done}


def factorize(parent: Trained, *, rank: int, delta: int) -> Outcome:
  """Factorizes the linear layers (equation 2 of "Combinatorics …"); masks there are gone.

  Args:
    parent: the model.
    rank: of every layer; 0 uses `delta`.
    delta: rank is r_max - delta.

  Returns:
    The model with `LowRank` linear layers, and {"ranks"}.
  """
  chosen = {"rank": rank} if rank else {"delta": delta}
  params = cj.factorize.svd(parent.variables["params"], **chosen)
  ranks = {path: x.rank for path, x in cj.entries(params)[0] if isinstance(x, cj.LowRank)}
  variables = {**parent.variables, "params": params}
  return dataclasses.replace(parent, variables=variables), {"ranks": ranks}


def quantize(parent: Trained, data: Data, *, bits: int, activation_bits: int,
             images: int) -> Outcome:
  """Static quantization: batch norms folded, weights per channel, inputs per tensor.

  Args:
    parent: the model, with batch norms.
    data: calibration images come from its training split.
    bits: of the weights.
    activation_bits: of the layers' inputs.
    images: about so many calibrate (whole batches of at most `evaluate.BATCH`).

  Returns:
    The integer model, and {"predictions_differ", "logits_differ"}: on how many
    test images it differs from the fake-quantized one.
  """
  folded = Trained(name=parent.name, arguments={**parent.arguments, "folded": True}, variables={
      "params": cj.fold.batch_norm(parent.variables["params"], parent.variables["batch_stats"])})
  params = cj.quantize.affine(folded.variables["params"], bits)
  fake = calibrated(folded, params, data, activation_bits=activation_bits, images=images)
  return deployed(fake, data)


def deployed(fake: Trained, data: Data) -> Outcome:
  """Freezes a fake-quantized model.

  Args:
    fake: the model, with input grids.
    data: the test images are run on both.

  Returns:
    The integer model, and {"predictions_differ", "logits_differ"}: on how many
    test images it differs from the fake-quantized one.
  """
  frozen = dataclasses.replace(fake, variables=cj.freeze(fake.variables))
  logits = [evaluate.logits(m.model, m.variables, data.test.images, lifted=True)
            for m in (fake, frozen)]
  return frozen, {
      "predictions_differ": int((logits[0].argmax(-1) != logits[1].argmax(-1)).sum()),
      "logits_differ": int((logits[0] != logits[1]).any(-1).sum())}


def calibrated(trained: Trained, params: Any, data: Data, *, activation_bits: int,
               images: int) -> Trained:
  """Gives a model's fake-quantized parameters static input grids; see `quantize`."""
  rest = {k: v for k, v in trained.variables.items() if k != "params"}
  apply = functools.partial(_apply, trained.model, rest)
  size = min(images, len(data.train), evaluate.BATCH)
  count = min(images, len(data.train)) // size * size
  batches = np.split(data.train.images[:count], count // size)
  params = cj.quantize.calibrate(apply, params, map(jnp.asarray, batches), bits=activation_bits)
  return dataclasses.replace(trained, variables={**rest, "params": params}, lifted=True)


def _apply(model: Any, rest: Any, params: Any, images: Any) -> Any:
  return model.apply({**rest, "params": params}, normalize(images), train=False)


def joint(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
          recipe: train.Recipe, directory: Path, log: Log, *, temperature: float, alpha: float,
          images: int) -> Outcome:
  """Distils, prunes and quantizes a student in one training, in one compiled step.

  Every step raises the sparsity by its schedule, puts the weights on grids that
  span them, rounds every layer's input on its own range, and learns from the
  teacher; the input grids are made static at the end. The integration that "An
  analysis of compression methods" (section VIII) names as future work.

  Args:
    teacher: the model to learn from.
    name: in the zoo, of the student.
    arguments: of `models.create`.
    data: the data.
    recipe: how to train; its `joint` says how to compress.
    directory: where training keeps its state.
    log: of the stage.
    temperature: of the soft targets.
    alpha: weight of the soft targets.
    images: about so many calibrate the inputs' static grids.

  Returns:
    The integer model, and {"history", "sparsity", "predictions_differ",
    "logits_differ"}.
  """
  student = Trained(name=name, arguments=arguments, variables=None)
  variables = train.initial(student.model, data.train.images, recipe.seed)
  params = cj.quantize.affine(cj.prune.magnitude(variables["params"], 0.0), recipe.joint.bits)
  params = cj.quantize.dynamic(params, bits=recipe.joint.activation_bits)
  guide = train.Teacher(model=teacher.model, variables=cj.dense(teacher.variables),
                        temperature=temperature, alpha=alpha)
  fit = train.fit(student.model, {**variables, "params": params}, data, recipe,
                  directory=directory, log=log, teacher=guide)
  trained = dataclasses.replace(student, variables=fit.variables)
  sparsity = cj.metrics.sparsity(fit.variables["params"])
  fake = calibrated(trained, fit.variables["params"], data, images=images,
                    activation_bits=recipe.joint.activation_bits)
  result, differences = deployed(fake, data)
  return result, {"history": fit.history, "sparsity": sparsity, **differences}

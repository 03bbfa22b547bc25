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
from experiments import models
from experiments.datasets.builders import Data
from experiments.models import pretrained
from experiments.training import evaluate, loop
from experiments.training.augment import normalize
from experiments.training.progress import Log


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

  def accuracy(self, split: Any) -> float:
    """Returns its accuracy on a split."""
    return evaluate.accuracy(self.model, self.variables, split, self.lifted)


Outcome = tuple[Trained, dict[str, Any]]


def fresh(name: str, arguments: Mapping[str, Any], data: Data, seed: int) -> Trained:
  """Returns a zoo model for the data, freshly initialised."""
  made = Trained(name=name, arguments=arguments, num_classes=data.num_classes, variables=None)
  return dataclasses.replace(made, variables=loop.initial(made.model, data.train.shape, seed))


def teach(name: str, arguments: Mapping[str, Any], data: Data, recipe: loop.Recipe,
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
  """
  empty = fresh(name, arguments, data, recipe.seed)
  if weights:
    loaded = pretrained.load(weights, empty.model, head_key=loop.random_key(recipe.seed))
    log.say(f"starts from {weights}; newly initialised: {', '.join(loaded.fresh) or 'nothing'}")
    empty = dataclasses.replace(empty, variables=loaded.variables)
  fit = loop.fit(empty.model, empty.variables, data, recipe, directory=directory, log=log)
  return dataclasses.replace(empty, variables=fit.variables), {"history": fit.history}


def finetune(parent: Trained, data: Data, recipe: loop.Recipe, directory: Path, log: Log, *,
             teacher: loop.Teacher | None = None) -> Outcome:
  """Trains a model further, its masks and grids in place; arguments as in `loop.fit`."""
  fit = loop.fit(parent.model, parent.variables, data, recipe, directory=directory, log=log,
                  teacher=teacher)
  return dataclasses.replace(parent, variables=fit.variables), {"history": fit.history}


def distil(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
           recipe: loop.Recipe, directory: Path, log: Log, *, temperature: float,
           alpha: float) -> Outcome:
  """Trains a student from scratch on a teacher's logits; arguments as in `teach`."""
  student = fresh(name, arguments, data, recipe.seed)
  return finetune(student, data, recipe, directory, log,
                  teacher=guide(teacher, temperature=temperature, alpha=alpha))


def guide(teacher: Trained, *, temperature: float, alpha: float) -> loop.Teacher:
  """Returns what a student learns from a trained model by; see `cj.distill.hinton`."""
  return loop.Teacher(model=teacher.model, variables=cj.dense(teacher.variables),
                       temperature=temperature, alpha=alpha)


def prune_iteratively(parent: Trained, data: Data, recipe: loop.Recipe, directory: Path,
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
    fits.append(loop.fit(parent.model, variables, data, recipe, target=target,
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
    parent: the model.
    data: calibration images come from its training split.
    bits: of the weights.
    activation_bits: of the layers' inputs.
    images: about so many calibrate (whole batches of at most `evaluate.BATCH`).

  Returns:
    The integer model, and {"predictions_differ", "logits_differ"}: on how many
    test images it differs from the fake-quantized one.
  """
  folded = without_norms(parent)
  params = cj.quantize.affine(folded.variables["params"], bits)
  fake = calibrated(folded, params, data, activation_bits=activation_bits, images=images)
  return deployed(fake, data)


def halve(parent: Trained) -> Trained:
  """Returns a model whose kernels are float16; it computes in its own precision."""
  params = cj.quantize.cast(parent.variables["params"], "float16")
  return dataclasses.replace(parent, variables=cj.freeze({**parent.variables, "params": params}))


def quantize_aware(parent: Trained, data: Data, recipe: loop.Recipe, directory: Path, log: Log, *,
                   bits: int, activation_bits: int, images: int,
                   teacher: loop.Teacher | None = None) -> Outcome:
  """Quantization-aware training: norms folded, then trained with weights and inputs rounded.

  Args:
    parent: the trained model.
    data: the data.
    recipe: how to train.
    directory: where training keeps its state.
    log: of the stage.
    bits: of the weights, per channel; their grids follow them.
    activation_bits: of the layers' inputs, each on its own range while training.
    images: about so many calibrate the inputs' static grids at the end.
    teacher: whom to learn from, or None.

  Returns:
    The integer model, and {"history", "predictions_differ", "logits_differ"}.

  Source: "An analysis of compression methods", section V.A.2.
  """
  folded = without_norms(parent)
  params = cj.quantize.dynamic(cj.quantize.affine(folded.variables["params"], bits),
                               bits=activation_bits)
  fit = loop.fit(folded.model, {"params": params}, data, dataclasses.replace(recipe, aware=True),
                  directory=directory, log=log, teacher=teacher)
  fake = calibrated(folded, fit.variables["params"], data, activation_bits=activation_bits,
                    images=images)
  result, differences = deployed(fake, data)
  return result, {"history": fit.history, **differences}


def without_norms(trained: Trained) -> Trained:
  """Returns the model with its batch norms, if it has any, folded into its layers."""
  if "batch_stats" not in trained.variables:
    return trained
  params = cj.fold.batch_norm(trained.variables["params"], trained.variables["batch_stats"])
  return dataclasses.replace(trained, variables={"params": params},
                             arguments={**trained.arguments, "folded": True})


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
  logits = [evaluate.logits(m.model, m.variables, data.test, lifted=True)
            for m in (fake, frozen)]
  return frozen, {
      "predictions_differ": int((logits[0].argmax(-1) != logits[1].argmax(-1)).sum()),
      "logits_differ": int((logits[0] != logits[1]).any(-1).sum())}


def milliseconds(trained: Trained, data: Data, *, calls: int, batch: int = 1) -> float:
  """Returns the median time of some images through a deployed model, in milliseconds.

  Args:
    trained: the model; it runs as it would be deployed.
    data: the images come from its test split.
    calls: timed calls.
    batch: images a call.
  """
  program = evaluate.logits_program(trained.model, trained.lifted)
  variables = cj.freeze(trained.variables)
  variables = variables if trained.lifted else cj.dense(variables)
  images = jnp.asarray(data.test.read(np.arange(batch)))
  times = cj.metrics.latency(program, variables, images, batches=[batch], calls=calls)
  return 1e3 * times[batch].median


def calibrated(trained: Trained, params: Any, data: Data, *, activation_bits: int,
               images: int) -> Trained:
  """Gives a model's fake-quantized parameters static input grids; see `quantize`."""
  rest = {k: v for k, v in trained.variables.items() if k != "params"}
  apply = functools.partial(_apply, trained.model, rest)
  size = min(images, len(data.train), evaluate.BATCH)
  starts = range(0, min(images, len(data.train)) - size + 1, size)
  batches = (jnp.asarray(data.train.read(np.arange(i, i + size))) for i in starts)
  params = cj.quantize.calibrate(apply, params, batches, bits=activation_bits)
  return dataclasses.replace(trained, variables={**rest, "params": params}, lifted=True)


def _apply(model: Any, rest: Any, params: Any, images: Any) -> Any:
  return model.apply({**rest, "params": params}, normalize(images), train=False)


def joint(teacher: Trained, name: str, arguments: Mapping[str, Any], data: Data,
          recipe: loop.Recipe, directory: Path, log: Log, *, temperature: float, alpha: float,
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
  student = fresh(name, arguments, data, recipe.seed)
  params = cj.prune.magnitude(student.variables["params"], 0.0)
  params = cj.quantize.affine(params, recipe.joint.bits)
  params = cj.quantize.dynamic(params, bits=recipe.joint.activation_bits)
  fit = loop.fit(student.model, {**student.variables, "params": params}, data, recipe,
                  directory=directory, log=log,
                  teacher=guide(teacher, temperature=temperature, alpha=alpha))
  trained = dataclasses.replace(student, variables=fit.variables)
  sparsity = cj.metrics.sparsity(fit.variables["params"])
  fake = calibrated(trained, fit.variables["params"], data, images=images,
                    activation_bits=recipe.joint.activation_bits)
  result, differences = deployed(fake, data)
  return result, {"history": fit.history, "sparsity": sparsity, **differences}

"""What the stages of a study do: teach, distil, prune, factorize, quantize."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
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
                      log: Log, *, fraction: float, tolerance: float, rounds: int) -> Outcome:
  """Prunes round by round for as long as the accuracy comes back.

  Each round masks `fraction` of the weights that are left, puts the others back
  to their pre-trained values (Chen et al. 2020, as in "Combinatorics with model
  compression", section 3.4), and trains until the validation accuracy is within
  `tolerance` of the parent's, or for `recipe.epochs`. The last round that
  recovered is the result.

  Args:
    parent: the pre-trained model.
    data: the data.
    recipe: of the recovery in each round.
    directory: where training keeps its state.
    log: of the stage.
    fraction: of the remaining weights, pruned a round; above 0, below 1.
    tolerance: accuracy, 0 to 1, that may be lost.
    rounds: at most so many.

  Returns:
    The sparsest model that recovered, and {"sparsity", "rounds"}.
  """
  target = parent.accuracy(data.validation) - tolerance
  best, done = parent, []
  for number in range(1, rounds + 1):
    sparsity = 1 - (1 - fraction) ** number
    start = _rewound(best.variables, parent.variables, sparsity)
    fit = train.fit(parent.model, start, data, recipe, target=target,
                    directory=directory / f"round-{number:02d}", log=log.within(f"round {number}"))
    recovered = fit.accuracy >= target
    done.append({"sparsity": sparsity, "val_accuracy": fit.accuracy, "recovered": recovered,
                 "epochs": len(fit.history), "history": fit.history})
    log.say(f"round {number}: sparsity {sparsity:.3f}, validation {fit.accuracy:.4f}, "
            f"{'recovered' if recovered else 'not recovered'} (target {target:.4f})")
    if not recovered:
      break
    best = dataclasses.replace(parent, variables=fit.variables)
  kept = max((r["sparsity"] for r in done if r["recovered"]), default=0.0)
  return best, {"sparsity": kept, "rounds": done}


def _rewound(current: Any, pretrained: Any, sparsity: float) -> Any:
  """Masks by the current magnitudes, over the pre-trained values."""
  masked = cj.prune.magnitude(current["params"], sparsity)
  values = cj.dense(pretrained["params"])
  params = jax.tree.map(lambda x, v: dataclasses.replace(x, value=v) if cj.is_leaf(x) else v,
                        masked, values, is_leaf=cj.is_leaf)
  return {"params": params, "batch_stats": pretrained["batch_stats"]}


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
  fake = calibrated(folded, data, bits=bits, activation_bits=activation_bits, images=images)
  deployed = dataclasses.replace(fake, variables=cj.freeze(fake.variables))
  logits = [evaluate.logits(m.model, m.variables, data.test.images, lifted=True)
            for m in (fake, deployed)]
  return deployed, {
      "predictions_differ": int((logits[0].argmax(-1) != logits[1].argmax(-1)).sum()),
      "logits_differ": int((logits[0] != logits[1]).any(-1).sum())}


def calibrated(folded: Trained, data: Data, *, bits: int, activation_bits: int,
               images: int) -> Trained:
  """Returns the fake-quantized model with input grids; see `quantize`."""
  params = cj.quantize.affine(folded.variables["params"], bits)
  apply = functools.partial(_apply, folded.model)
  size = min(images, len(data.train), evaluate.BATCH)
  count = min(images, len(data.train)) // size * size
  batches = np.split(data.train.images[:count], count // size)
  params = cj.quantize.calibrate(apply, params, map(jnp.asarray, batches), bits=activation_bits)
  return dataclasses.replace(folded, variables={"params": params}, lifted=True)


def _apply(model: Any, params: Any, images: Any) -> Any:
  return model.apply({"params": params}, normalize(images), train=False)

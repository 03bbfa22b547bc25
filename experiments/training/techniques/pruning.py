"""Iterative pruning: mask a little, train until the accuracy is back, and so on."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments.datasets.splits import Data
from experiments.training import loop
from experiments.training.progress import Log
from experiments.training.recipe import Fit, Recipe
from experiments.training.techniques.trained import Outcome, Trained


def prune_iteratively(parent: Trained, data: Data, recipe: Recipe, directory: Path,
                      log: Log, *, stream: str, fraction: float, tolerance: float, rounds: int,
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
    stream: as in `finetune`; every round has one of its own.
    fraction: of the remaining weights, pruned in each round; above 0, below 1.
    tolerance: accuracy, 0 to 1, that may be lost.
    rounds: at most so many.
    rewind: "pretrained" puts the weights back to the parent's (Chen et al. 2020,
      as in "Combinatorics with model compression", section 3.4); "learning_rate"
      keeps them (Renda et al. 2020).

  Returns:
    The sparsest model that recovered, and {"sparsity", "rounds"}.
  """
  # Validation images only: how far to prune is a choice of the model.
  # Less what rounding makes of the difference of two fractions.
  target = parent.accuracy(data.validation) - tolerance - 1e-9
  fits: list[Fit] = []

  def recover(variables: Any, number: int) -> Any:
    own = dataclasses.replace(recipe, stream=f"{stream} {number}")
    fits.append(loop.fit(parent.model, variables, data, own, target=target,
                         directory=directory / f"round-{number:02d}",
                         log=log.within(f"round {number}")))
    return fits[-1].variables

  rewind_to = cj.dense(parent.variables) if rewind == "pretrained" else None
  best, kept, done = parent, 0.0, []
  # A generator: it trains a round when it is asked for the next one.
  for sparsity, variables in cj.prune.iterative(
      parent.variables, recover, fraction=fraction, rounds=rounds, rewind_to=rewind_to):
    done.append(_round(sparsity, fits[-1], target))
    _report(log, done, target)
    if not done[-1]["recovered"]:
      break
    best, kept = dataclasses.replace(parent, variables=variables), sparsity
  return best, {"sparsity": kept, "rounds": done}


def _round(sparsity: float, fit: Fit, target: float) -> dict[str, Any]:
  """Returns what metrics.json keeps of a round."""
  return {"sparsity": sparsity, "val_accuracy": fit.accuracy,
          "recovered": fit.accuracy >= target, "epochs": len(fit.history),
          "history": fit.history}


def _report(log: Log, done: list[dict[str, Any]], target: float) -> None:
  last = done[-1]
  outcome = "recovered" if last["recovered"] else "not recovered"
  log.say(f"round {len(done)}: sparsity {last['sparsity']:.3f}, "
          f"validation {last['val_accuracy']:.4f}, {outcome} (target {target:.4f})")

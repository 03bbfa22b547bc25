"""The grid of "Evaluation of compression combinations": sparsities by precisions."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments import faults, models
from experiments.datasets import builders
from experiments.reporting import results
from experiments.studies import base, compared, seeds
from experiments.studies.grid import comparison, report, training
from experiments.studies.grid.config import check
from experiments.training import devices, evaluate, input_pipeline, kept, techniques
from experiments.training.augment import Augment
from experiments.training.draws import Draws
from experiments.training.progress import Log

# What results.csv has of a cell from every study's rows.
_SHOWN = ("seed", "test_accuracy", "val_accuracy", "params", "nonzero_params", "gzip_bytes",
          "artifact_bytes", "seconds")


def _report(grids: Sequence[Grid], rows: Sequence[Mapping[str, Any]], folder: Path,
            config: Any) -> None:
  """Writes the report, and how the ways to train the cells compare, where that is asked for."""
  if config.compare_steps and grids[0].has("base"):
    ways = grids[0].compare(config.compare_steps)
    results.write_csv(ways, folder / "ways.csv")
    report.print_ways(ways)
  report.write(grids, rows, folder, config)


# Fields of the configuration that a pruned model depends on, and its cells beside those.
_PRUNING = ("steps_per_epoch", "batch_size", "learning_rate", "decays", "prune_epochs")
_ROUNDING = ("round_epochs", "images", "vmap")


class Grid(base.Study):
  """One seed of the study."""

  def __init__(self, *args: Any):
    """Prepares the study; see `base.Study`."""
    super().__init__(*args)
    self._broken: dict[int, str] = {}  # by place: why, of cells trained side by side

  def check(self) -> None:
    """Raises a ValueError too for a model with batch norms, and for cells that cannot be shared."""
    super().check()
    image = jnp.zeros((1, *builders.image_shape(self.builder)))
    made = jax.eval_shape(functools.partial(self.model.init, train=False), jax.random.key(0), image)
    if "batch_stats" in made:
      raise ValueError(f"config.model.name={self.config.model.name!r}: has batch norms, whose "
                       "statistics cells that train side by side cannot share; must have none, as "
                       "cnn, alexnet and squeezenet")
    if self.config.vmap and (self.manner.worker or self.manner.executor != "local"):
      raise ValueError("config.vmap=True: trains all cells in one process; it must be False with "
                       "--worker and --executor=ray")
    if self.config.compare_steps and self.config.data.name == "folder":
      raise ValueError(f"config.compare_steps={self.config.compare_steps}: must be 0 where images "
                       "are read from a folder, since the ways are compared with all in memory")

  @functools.cached_property
  def model(self) -> Any:
    """The zoo model."""
    return models.create(self.config.model.name, num_classes=builders.num_classes(self.builder),
                         **self.arguments(self.config.model))

  @property
  def cells(self) -> dict[str, tuple[float, int]]:
    """(sparsity, bits) of every cell."""
    cells = {}
    for sparsity in self.config.sparsities:
      for bits in self.config.bits:
        cells[f"{_pruned_stage(sparsity)}-bits{bits}"] = (sparsity, bits)
    return cells

  @property
  def pruned(self) -> dict[str, float]:
    """The sparsity of every stage that prunes for its cells."""
    return {_pruned_stage(sparsity): sparsity for sparsity in self.config.sparsities if sparsity}

  @property
  def names(self) -> Sequence[str]:
    return list(self.cells)

  def parent(self, name: str) -> str | None:
    if name == "base":
      return None
    if name not in self.cells or self.config.vmap:
      return "base"  # side by side each cell is trained whole
    # Cells of one sparsity go on from one pruned model.
    stage = _pruned_stage(self.cells[name][0])
    return stage if stage in self.pruned else "base"

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    spec = {field: c[field] for field in _PRUNING}
    if name in self.pruned:
      return {**spec, "sparsity": self.pruned[name]}
    sparsity, bits = self.cells[name]
    return {**spec, **{field: c[field] for field in _ROUNDING}, "sparsity": sparsity, "bits": bits}

  @functools.cached_property
  def plan(self) -> training.Plan:
    """What the cells' trainings have in common."""
    c, steps = self.config, self._steps
    # An epoch of few steps prunes at least three times.
    every = min(100, max(1, steps // 3))
    return training.Plan(prune_steps=c.prune_epochs * steps, round_steps=c.round_epochs * steps,
                         learning_rate=c.learning_rate, decays=c.decays, every=every,
                         seed=self._draws.flips, augment=Augment(**c.data.augment.to_dict()))

  @property
  def _steps(self) -> int:
    return self.config.steps_per_epoch or max(1, len(self.data.train) // self.config.batch_size)

  def row(self, name: str) -> dict[str, Any]:
    """Returns a cell's row, with what Tables I to III have of it."""
    row, (sparsity, bits) = super().row(name), self.cells[name]
    base = self.result("base").metrics
    shown = {field: row[field] for field in _SHOWN}
    return {"sparsity": sparsity, "bits": bits, **shown,
            **compared.with_base(row, base, sparsity=sparsity, bits=bits),
            "reduction": row["reduction"], "artifact": row["artifact"]}

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    if name == "base":
      return self.teach(self.config.model, self.config.base, work, log)
    if name in self.pruned:
      return self._prune(name, work, log)
    sparsity, bits = self.cells[name]
    if self.config.vmap:
      # Whichever cell comes first trains all of them.
      state, history = self._side_by_side
      place = self.names.index(name)
      if place in self._broken:
        raise faults.NotFinite(self._broken[place])
      state = jax.tree.map(lambda x: x[place], state)
    else:
      numbers = {"sparsity": jnp.float32(sparsity), "bits": jnp.int32(bits)}
      state, history = self._looped(self.parent(name), numbers, work, log, self.plan.prune_steps,
                                    self.plan.steps)
    return self._rounded(state["params"], bits), {"history": history}

  def _prune(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Returns the model of one sparsity, from which its cells go on."""
    numbers = {"sparsity": jnp.float32(self.pruned[name]), "bits": jnp.int32(32)}
    state, history = self._looped("base", numbers, work, log, 0, self.plan.prune_steps)
    return self._as_trained(state["params"]), {"history": history}

  def _looped(self, parent: str, numbers: Any, work: Path, log: Log, start: int,
              stop: int) -> tuple[Any, list[dict[str, float]]]:
    """Returns the state after some of the plan's steps from a stage's model, and the history."""
    # Masks that are there stay; where nothing has been pruned they mask nothing yet.
    state = training.start(self.trained(parent).params)
    return self._trained(state, numbers, log, training.looped(self.model, self.plan), start, stop,
                         work)

  @functools.cached_property
  def base_params(self) -> Any:
    """The dense model's parameters."""
    return cj.dense(self.result("base").load()["params"])

  @functools.cached_property
  def _side_by_side(self) -> Any:
    """The final state of all cells, trained in one program, and the history of their means."""
    log, start = Log("all cells", self.workdir / "log.txt"), training.start(self.base_params)
    # All cells start from the same model.
    start = jax.tree.map(lambda x: jnp.stack([x] * len(self.cells)), start)
    # All of them are far more than one cell's folder should hold: nothing is kept.
    return self._trained(start, self._numbers(), log, training.together(self.model, self.plan),
                         0, self.plan.steps)

  def _numbers(self) -> dict[str, Any]:
    sparsities, bits = zip(*self.cells.values(), strict=True)
    return {"sparsity": jnp.asarray(sparsities, jnp.float32), "bits": jnp.asarray(bits, jnp.int32)}

  def _trained(self, state: Any, numbers: Any, log: Log, run: Any, start: int, stop: int,
               directory: Path | None = None) -> tuple[Any, list[dict[str, float]]]:
    """Returns the state after the plan's steps from `start` to `stop`, and the history.

    With a directory it goes on after the last epoch that is kept there.
    """
    plan, on = self.plan, devices.mesh(self.config.batch_size)
    state, history = kept.resume(directory, state) if directory else (state, [])
    state, epochs = devices.everywhere(state, on), self._epochs(numbers, start, stop)
    feed = input_pipeline.of(self.data.train, on, self.config.batch_size)

    def position() -> str:
      done = kept.count(directory) if directory else 0
      return f"stage {log.label}, step {epochs[done][0] if done < len(epochs) else stop}"

    keeping = kept.Keeper(directory) if directory else contextlib.nullcontext()
    with faults.stoppable(position), keeping as keeper:
      for first, last in epochs[len(history):]:
        epoch, parts = first // self._steps, []
        for begin, end, data in feed.calls(self._order(epoch)):
          data = {**data, **self._views(epoch), "offset": first + data["offset"]}
          state, found = run(state, numbers, data, first + begin, first + end)
          parts.append(found)
        sums = jax.tree.map(lambda *each: sum(each), *parts)
        history.append(self._means(sums, last - first))
        log.say(f"step {last}/{plan.steps}  loss {history[-1]['loss']:.4f}  "
                f"accuracy {history[-1]['accuracy']:.4f}")
        self._check_losses(sums["loss"], f"epoch {epoch + 1} (step {last}/{plan.steps})")
        if keeper:
          keeper.keep(state, history)
    return state, history

  def _epochs(self, numbers: Any, start: int, stop: int) -> list[tuple[int, int]]:
    """Returns the first and last steps of the epochs in which any cell changes."""
    firsts = range(start, stop, self._steps)
    all_of_them = [(first, min(first + self._steps, stop)) for first in firsts]
    return [steps for steps in all_of_them if _changes(self.plan, numbers, *steps)]

  def _means(self, sums: Mapping[str, Any], steps: int) -> dict[str, float]:
    """Returns an epoch's means; over cells too, where they train side by side."""
    return {"loss": float(np.mean(sums["loss"])) / steps,
            "accuracy": float(np.mean(sums["correct"])) / (steps * self.config.batch_size)}

  def _check_losses(self, losses: Any, at: str) -> None:
    """Raises an error for a loss that is not finite; of cells side by side, notes which."""
    hint = f"lower --config.learning_rate ({self.config.learning_rate:g} now)"
    if np.ndim(losses) == 0:
      faults.check_epoch(at, {"loss": float(losses)}, {}, hint)
      return
    for place in np.flatnonzero(~np.isfinite(losses)):
      # The first time counts: later all of the cell's losses are the same.
      self._broken.setdefault(int(place), f"{at}: loss is {losses[place]}; {hint}")

  @property
  def _draws(self) -> Draws:
    # All cells see the same; the base model, from which they go on, saw other views.
    return Draws(self.seed, "cells")

  def _views(self, epoch: int) -> dict[str, Any]:
    """Returns what the augmentation of an epoch depends on."""
    return {"key": self._draws.key(epoch), "epoch": epoch}

  def _order(self, epoch: int) -> np.ndarray:
    return self._draws.order(len(self.data.train), self._steps, self.config.batch_size, epoch)

  def _rounded(self, params: Any, bits: int) -> techniques.Trained:
    """Returns a cell's model, ready to deploy; 8 bits run in integers."""
    trained = self._as_trained(training.ROUNDED[bits](params))
    if bits == 8:
      trained = techniques.calibrated(trained, trained.params, self.data, activation_bits=8,
                                      images=self.config.images)
    return dataclasses.replace(trained, variables=cj.freeze(trained.variables))

  def _as_trained(self, params: Any) -> techniques.Trained:
    c = self.config.model
    return techniques.Trained(name=c.name, arguments=self.arguments(c),
                              variables={"params": params}, num_classes=self.data.num_classes)

  def compare(self, steps: int) -> list[dict[str, Any]]:
    """Trains every cell for some steps looped, side by side and by itself.

    Args:
      steps: of each cell, at most an epoch; half of them pruned and half rounded.

    Returns:
      One row per way, as `comparison.compare` makes them.
    """
    steps = min(steps, self._steps)
    plan = training.Plan(prune_steps=steps // 2, round_steps=steps - steps // 2, every=10)
    images = input_pipeline.InMemory(self.data.train, None).data
    task = comparison.Task(
        model=self.model, params=self.base_params, cells=list(self.cells.values()),
        numbers=self._numbers(), plan=plan,
        data={**images, **self._views(0), "order": jnp.asarray(self._order(0)), "offset": 0})
    return comparison.compare(task, self._validation_accuracy)

  def _validation_accuracy(self, params: Any) -> float:
    return evaluate.accuracy(self.model, {"params": params}, self.data.validation)


def _pruned_stage(sparsity: float) -> str:
  return f"sparsity{sparsity:g}"


def _changes(plan: training.Plan, numbers: Any, first: int, last: int) -> bool:
  """Returns whether any cell changes in these steps; if none does, they need not run."""
  pruning = first < plan.prune_steps and np.any(np.asarray(numbers["sparsity"]) > 0)
  rounding = last > plan.prune_steps and np.any(np.asarray(numbers["bits"]) < 32)
  return bool(pruning or rounding)


# Called as `run(config, workdir, data_dir, manner=)`: what is left of `seeds.run`, which says more.
run = functools.partial(seeds.run, Grid, check, _report)

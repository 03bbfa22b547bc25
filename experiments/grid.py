"""The grid of "Evaluation of compression combinations": sparsities by precisions."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import compress_jax as cj
from experiments import cells, evaluate, grid_report, models, recipes, study, train
from experiments import data as data_lib
from experiments.progress import Log


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it, and writes its tables.

  Args:
    config: from `configs/grid.py`.
    workdir: where stages and results go.
    data_dir: see `data.builder`.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration cannot be used; the message names it.
  """
  check(config)
  builder = data_lib.builder(config.data.name, data_dir)
  rows: list[dict[str, Any]] = []
  for seed in range(config.seed, config.seed + config.seeds):
    grid = Grid(config, workdir, builder, seed)
    rows += grid.rows()
    if config.compare_steps and seed == config.seed:
      grid_report.compared(grid.compare(config.compare_steps), workdir)
  grid_report.write(rows, workdir, config)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  limits = {"base_epochs": (1, 10**4), "prune_epochs": (1, 10**4), "round_epochs": (1, 10**4),
            "batch_size": (1, 10**6), "steps_per_epoch": (0, 10**9), "learning_rate": (0, 10),
            "images": (1, 10**9), "compare_steps": (0, 10**6), "seeds": (1, 10**4)}
  for field, (low, high) in limits.items():
    if not low <= config[field] <= high:
      raise ValueError(f"config.{field}={config[field]}: may be from {low} to {high}")
  for bits in config.bits:
    if bits not in cells.ROUNDED:
      raise ValueError(f"config.bits: {bits} may be one of {', '.join(map(str, cells.ROUNDED))}")
  for sparsity in config.sparsities:
    if not 0 <= sparsity < 1:
      raise ValueError(f"config.sparsities: {sparsity} may be from 0 to below 1")


Cell = tuple[float, int]


class Grid(study.Study):
  """One seed of the study."""

  def __init__(self, config: Any, workdir: Path, builder: Any, seed: int):
    super().__init__(config, workdir, builder, seed)
    self.model = models.create(config.model.name, num_classes=data_lib.NUM_CLASSES,
                               **config.model.arguments.to_dict())

  @functools.cached_property
  def plan(self) -> cells.Plan:
    """What the cells' trainings have in common."""
    c, steps = self.config, self._steps
    return cells.Plan(prune_steps=c.prune_epochs * steps, round_steps=c.round_epochs * steps,
                      learning_rate=c.learning_rate, every=min(100, max(1, steps // 3)),
                      seed=self.seed)

  @property
  def _steps(self) -> int:
    return self.config.steps_per_epoch or max(1, len(self.data.train) // self.config.batch_size)

  @property
  def cells(self) -> list[Cell]:
    """(sparsity, bits) of every cell."""
    return [(s, b) for s in self.config.sparsities for b in self.config.bits]

  def rows(self) -> list[dict[str, Any]]:
    """Returns the rows of results.csv, after running what is missing."""
    return [self._row(cell) for cell in self.cells]

  def _row(self, cell: Cell) -> dict[str, Any]:
    (sparsity, bits), result, base = cell, self.result(cell), self.base.metrics
    m = result.metrics
    delta = 100 * (m["test_accuracy"] - base["test_accuracy"])
    reduction = base["gzip_bytes"] / m["gzip_bytes"]
    shown = ("test_accuracy", "val_accuracy", "params", "nonzero_params", "gzip_bytes",
             "artifact_bytes", "seconds")
    return {"sparsity": sparsity, "bits": bits, "seed": self.seed, **{k: m[k] for k in shown},
            "delta_accuracy": delta, "reduction": reduction,
            "quality": float(cj.metrics.quality(sparsity, bits, delta, reduction)),
            "saved": 1 - m["artifact_bytes"] / base["dense_bytes"],
            "artifact": str((result.directory / "model.cjx").relative_to(self.workdir))}

  def _stage(self, name: str, **spec: Any) -> cj.stages.Stage:
    c = self.config
    common = {k: c[k] for k in ("base_epochs", "steps_per_epoch", "batch_size", "learning_rate")}
    return cj.stages.Stage(name=name, data=self.fingerprint, spec={
        **common, **spec, "seed": self.seed, "data": c.data.to_dict(),
        "model": c.model.to_dict()})

  @functools.cached_property
  def base(self) -> cj.stages.Result:
    """The dense model, trained from scratch."""
    return cj.stages.run(self._stage("base"), self.workdir, self._teach)

  def _teach(self, directory: Path) -> tuple[Any, dict[str, Any]]:
    """Trains the dense model: cells without pruning in which every step counts."""
    log = Log("base", directory / "log.txt")
    params = train.initial(self.model, self.data.train.images, self.seed)["params"]
    steps = self.config.base_epochs * self._steps
    # Sparsity of nothing: pruning never starts, training does.
    plan = dataclasses.replace(self.plan, prune_steps=steps, round_steps=0, every=steps + 1)
    state, history = self._trained(plan, params, {"sparsity": 1e-9, "bits": 32}, log,
                                   cells.looped)
    return self._measured(state["params"], 32, directory, history)

  def result(self, cell: Cell) -> cj.stages.Result:
    """Returns a cell's result, after training it if need be."""
    sparsity, bits = cell
    c = self.config
    stage = dataclasses.replace(
        self._stage(f"sparsity{sparsity:g}-bits{bits}", sparsity=sparsity, bits=bits,
                    prune_epochs=c.prune_epochs, round_epochs=c.round_epochs, images=c.images,
                    vmap=c.vmap), parent=self._stage("base"))
    return cj.stages.run(stage, self.workdir, functools.partial(self._cell, cell))

  def _cell(self, cell: Cell, directory: Path) -> tuple[Any, dict[str, Any]]:
    sparsity, bits = cell
    log = Log(f"{sparsity:g} {bits}", directory / "log.txt")
    if self.config.vmap:
      state, history = self._side_by_side
      state = jax.tree.map(lambda x: x[self.cells.index(cell)], state)
    else:
      numbers = {"sparsity": jnp.float32(sparsity), "bits": jnp.int32(bits)}
      state, history = self._trained(self.plan, self.base_params, numbers, log, cells.looped)
    return self._measured(state["params"], bits, directory, history)

  @functools.cached_property
  def base_params(self) -> Any:
    """The dense model's parameters."""
    return cj.dense(self.base.load()["params"])

  @functools.cached_property
  def _side_by_side(self) -> Any:
    """The final state of all cells, trained in one program, and the history of their means."""
    log = Log("all cells", self.workdir / "log.txt")
    return self._trained(self.plan, self.base_params, self._numbers(), log, cells.together)

  def _numbers(self) -> dict[str, Any]:
    sparsities, bits = zip(*self.cells, strict=True)
    return {"sparsity": jnp.asarray(sparsities, jnp.float32), "bits": jnp.asarray(bits, jnp.int32)}

  def _trained(self, plan: cells.Plan, params: Any, numbers: Any, log: Log,
               compiled: Any) -> tuple[Any, list[dict[str, float]]]:
    """Returns the state after a plan's steps, an epoch a call, and the history."""
    history: list[dict[str, float]] = []
    state, run = cells.start(params), compiled(self.model, plan)
    if compiled is cells.together:
      state = jax.tree.map(lambda x: jnp.stack([x] * len(self.cells)), state)
    images, labels = (jnp.asarray(x) for x in (self.data.train.images, self.data.train.labels))
    for epoch, first in enumerate(range(0, plan.steps, self._steps)):
      last = min(first + self._steps, plan.steps)
      if not _changes(plan, numbers, first, last):
        continue
      data = {"images": images, "labels": labels, "order": self._order(epoch)}
      state, sums = run(state, numbers, data, first, last)
      count = (last - first) * self.config.batch_size
      history.append({"loss": float(np.mean(sums["loss"])) / (last - first),
                      "accuracy": float(np.mean(sums["correct"])) / count})
      log.say(f"step {last}/{plan.steps}  loss {history[-1]['loss']:.4f}  "
              f"accuracy {history[-1]['accuracy']:.4f}")
    return state, history

  def _order(self, epoch: int) -> jax.Array:
    """Returns the images of each step of an epoch."""
    rng, count = np.random.default_rng([self.seed, epoch]), len(self.data.train)
    needed = self._steps * self.config.batch_size
    passes = [rng.permutation(count) for _ in range(-(-needed // count))]
    return jnp.asarray(np.concatenate(passes)[:needed].reshape(self._steps, -1))

  def _measured(self, params: Any, bits: int, directory: Path,
                history: list[dict[str, float]]) -> tuple[Any, dict[str, Any]]:
    """Deploys a cell, and says what it is worth; 8 bits run in integers."""
    variables = {"params": cells.ROUNDED[bits](params)}
    trained = recipes.Trained(name=self.config.model.name, variables=variables,
                              arguments=self.config.model.arguments.to_dict())
    if bits == 8:
      trained = recipes.calibrated(trained, variables["params"], self.data, activation_bits=8,
                                   images=self.config.images)
    trained = dataclasses.replace(trained, variables=cj.freeze(trained.variables))
    return trained.variables, {**self.deploy(trained, directory), "history": history}

  def compare(self, steps: int) -> list[dict[str, Any]]:
    """Trains every cell for some steps looped, side by side and by itself.

    Returns:
      A row a way: programs compiled, seconds, and by how much its weights and
      accuracies differ from the looped ones.
    """
    return grid_report.ways(self.model, self.base_params, self.cells, self._numbers(), {
        "images": jnp.asarray(self.data.train.images), "labels": jnp.asarray(
            self.data.train.labels), "order": self._order(0)}, min(steps, self._steps), lambda p: (
                evaluate.accuracy(self.model, {"params": p}, self.data.validation)))


def _changes(plan: cells.Plan, numbers: Any, first: int, last: int) -> bool:
  """Returns whether any cell changes in these steps."""
  pruning = first < plan.prune_steps and np.any(np.asarray(numbers["sparsity"]) > 0)
  rounding = last > plan.prune_steps and np.any(np.asarray(numbers["bits"]) < 32)
  return bool(pruning or rounding)



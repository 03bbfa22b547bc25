"""What studies have in common: named stages, each made from another one, for every seed."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments import defaults, environment, faults, hosts
from experiments.datasets import builders
from experiments.studies import (
  checks,
  deployment,
  failures,
  measured,
  positions,
  recipes,
  running,
)
from experiments.studies.ingredients import Ingredients
from experiments.studies.manner import Manner
from experiments.training import techniques
from experiments.training.answers import Answers
from experiments.training.progress import Log

SIZES = ("params", "nonzero_params", "dense_bytes", "nonzero_bytes", "gzip_bytes",
         "artifact_bytes")


class Study(Ingredients):
  """One seed of a study.

  A study says by `names`, `parent`, `spec` and `make` what its stages are, and by
  `measure` and `measuring` what is measured beyond accuracies and sizes. "base" is the stage that
  the others are compared with. Everything else is done here.

  Attributes:
    config: from a file in `configs/`; `config.data` has name, validation, limit.
    workdir: where stages are.
    builder: of the data set.
    results: where the report is; paths in its rows start there.
    seed: of everything that is random.
    fingerprint: of the data, for stages.
    stages_run: so many stages were not complete before.
    done: {name: result} of the stages that were asked for in this run.
    failed: {name: why} of the stages that failed in this run.
    skipped: {name: because of which stage} of those that therefore could not run.
    answers: what teachers said, for the next student.
    manner: how the study is run.
    after_stage: called when a stage has been run here and is complete.
  """

  def __init__(self, config: Any, workdir: Path, builder: Any, seed: int,
               results: Path | None = None, manner: Manner = Manner()):  # noqa: B008, frozen
    """Prepares the study; nothing runs yet.

    Args:
      config: the study's configuration.
      workdir: where stages go.
      builder: see `builders.builder`.
      seed: of everything that is random.
      results: where the report will be; None is the workdir.
      manner: how the study is run.
    """
    self.manner = manner
    self.config = recipes.on_this_machine(config)
    self.workdir, self.builder, self.seed = workdir, builder, seed
    self.results, self.stages_run = results or workdir, 0
    self.fingerprint = builders.fingerprint(builder)
    self.failed: dict[str, str] = {}
    self.skipped: dict[str, str] = {}
    self.done: dict[str, cj.stages.Result] = {}
    # All students of a study learn from one data set: what a teacher says of it is asked once.
    self.answers = Answers()
    self.after_stage: Callable[[], None] = lambda: None

  def check(self) -> None:
    """Raises a ValueError that names the first model of the configuration that cannot be made."""
    checks.model_shapes(self.config, self.builder)

  # What a study says of itself.

  @property
  def names(self) -> Sequence[str]:
    """The stages that the report has a row of, in its order."""
    raise NotImplementedError

  @property
  def more(self) -> Sequence[str]:
    """Stages that pictures need and that have no row of their own."""
    return ()

  def parent(self, name: str) -> str | None:
    """Returns the stage that a stage starts from, or None where it starts from nothing.

    Args:
      name: a stage's.
    """
    raise NotImplementedError

  def needs(self, name: str) -> Sequence[str]:
    """Returns the stages that must be complete before a stage can run: its parent.

    Args:
      name: the stage's.
    """
    parent = self.parent(name)
    return [parent] if parent else []

  def spec(self, name: str) -> Mapping[str, Any]:
    """Returns what a stage depends on, beside its parent, the data and the seed.

    Args:
      name: a stage's.

    Returns:
      What JSON can hold; a stage whose specification differs is another stage.
    """
    raise NotImplementedError

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Makes a stage's model.

    Args:
      name: the stage's.
      work: a folder for what training keeps until the stage is complete.
      log: of the stage.

    Returns:
      The model, and what metrics.json keeps of how it was made.
    """
    raise NotImplementedError

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, Any]:
    """Returns what is measured beside accuracies and sizes, as columns of results.csv.

    Args:
      name: the stage's.
      trained: its model.
    """
    return {}

  @property
  def measuring(self) -> Mapping[str, Any]:
    """What `measure` depends on beside the model; JSON-able. Empty where nothing is measured."""
    return {}

  # Stages: what they are, and what came out of them.

  def stage(self, name: str) -> cj.stages.Stage:
    """Returns a stage, which may not have run yet.

    Args:
      name: the stage's.
    """
    parent = self.parent(name)
    spec = {**self.spec(name), "seed": self.seed, "data": self.config.data.to_dict(),
            "compute_dtype": self.config.compute_dtype}
    return cj.stages.Stage(name=name, spec=defaults.without(spec),
                           parent=parent and self.stage(parent), data=self.fingerprint)

  def result(self, name: str) -> cj.stages.Result:
    """Returns a stage's result, after running what is missing before it.

    Args:
      name: the stage's.

    Raises:
      StageFailed: this stage failed, or one that it needs.
      Busy: another process works on it, and the manner is not to wait.
    """
    if name in self.failed and not cj.stages.find(self.stage(name), self.workdir):
      raise faults.StageFailed(name, self.failed[name])
    # What failed here (no memory was left, say) another process may have completed since.
    self.failed.pop(name, None)
    if name not in self.done:
      try:
        with faults.stoppable(
            lambda: positions.stopped(name, self.stage(name).directory(self.workdir))):
          self.done[name] = self._complete(name)
      except Exception as error:
        if not faults.of_one_stage(error):
          raise
        self.failed[name] = faults.in_one_line(error)
        raise faults.StageFailed(name, self.failed[name]) from error
    return self.done[name]

  def _complete(self, name: str) -> cj.stages.Result:
    """Returns a stage's result, from its directory or by its work."""
    stage = self.stage(name)
    known = cj.stages.find(stage, self.workdir)
    # Of the first process, where several train together: all of them work, or none.
    if not hosts.of_first(known is not None):
      self._look_for_failure(name)
      if self.manner.looks:
        raise faults.Busy(name)
      for parent in self.needs(name):
        self.result(parent)
      known = running.run(stage, self.workdir, functools.partial(self._work, name), self.manner)
      self.after_stage()
    known = known or running.seen(stage, self.workdir)
    # The state of training is kept until the stage is complete, not longer.
    shutil.rmtree(known.directory / "work", ignore_errors=True)
    return known

  def _look_for_failure(self, name: str) -> None:
    """Raises an error for a stage that failed in another run."""
    reason = failures.reason(self.stage(name).directory(self.workdir))
    if reason:
      self.failed[name] = f"{reason} (failed before; --retry_failed tries again)"
      raise faults.StageFailed(name, self.failed[name])

  def check_complete(self) -> None:
    """Raises `DamagedStage` for the first complete stage that is not as it was left."""
    # Which stages there are may depend on one that has not run.
    with contextlib.suppress(faults.Busy, faults.StageFailed):
      for name in [*self.names, *self.more]:
        cj.stages.find(self.stage(name), self.workdir)

  def rows(self) -> list[dict[str, Any]]:
    """Runs all stages that can run, and returns the rows of those that there are.

    `failed` and `skipped` say afterwards what is missing. Without a base model, which all
    are compared with, there are no rows.
    """
    names = self._try_names()
    there = [name for name in names if self.has(name)]
    for name in self.more:
      self.has(name)
    if not self.has("base"):
      return []
    return [self.row(name) for name in there]

  def _try_names(self) -> Sequence[str]:
    """Returns `names`, which some studies know only after a stage has run."""
    try:
      return self.names
    except faults.StageFailed as error:
      self.skipped["all that is made from it"] = error.stage
      return ["base"]

  def has(self, name: str) -> bool:
    """Returns whether there is a stage's result, after trying to make it.

    Args:
      name: the stage's.
    """
    try:
      self.result(name)
    except faults.StageFailed as error:
      if error.stage != name:
        self.skipped[name] = error.stage
      return False
    self.skipped.pop(name, None)
    return True

  def trained(self, name: str) -> techniques.Trained:
    """Returns the model at the end of a stage, which runs if it has not.

    Args:
      name: the stage's.
    """
    result = self.result(name)
    return techniques.Trained(**result.metrics["trained"], variables=result.load())

  def measured(self, name: str) -> dict[str, Any]:
    """Returns what `measure` says of a stage, which may have been made by another study.

    Args:
      name: the stage's.
    """
    if not self.measuring:
      return {}
    return measured.of(self.result(name).directory, self.measuring,
                       lambda: self.measure(name, self.trained(name)))

  def row(self, name: str) -> dict[str, Any]:
    """Returns a stage's row of results.csv; the stage runs if it has not.

    Args:
      name: the stage's.
    """
    result, base = self.result(name), self.result("base").metrics
    metrics = result.metrics
    seconds = sum(self.result(s.name).metrics["seconds"] for s in result.stage.lineage())
    artifact = os.path.relpath(result.directory / "model.cjx", self.results)
    return {"combo": name, "seed": self.seed, "test_accuracy": metrics["test_accuracy"],
            "val_accuracy": metrics["val_accuracy"], **{size: metrics[size] for size in SIZES},
            **self.measured(name), "artifact": artifact, "seconds": round(seconds, 1),
            "reduction": round(1 - metrics["artifact_bytes"] / base["dense_bytes"], 6)}

  def _work(self, name: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    """Makes, deploys and measures one stage; returns its variables and metrics."""
    log = Log(name, directory / "log.txt")
    # Another process may have failed while this one waited.
    self._look_for_failure(name)
    log.say(f"{positions.begins(directory)} (seed {self.seed})")
    try:
      trained, details = self.make(name, directory / "work", log)
      faults.check_weights("after the last step", trained.variables,
                           "lower the learning rates of this stage and of those before it")
    except Exception as error:
      if faults.of_one_stage(error):
        log.say(f"FAILED: {faults.in_one_line(error)}")
      if faults.anywhere(error) and hosts.first():
        failures.keep(directory, faults.in_one_line(error))
      raise
    metrics = {**deployment.deploy(trained, directory, self.data, self.config.data,
                                   combo=name), **details,
               "made_with": environment.of_stage()}
    if self.measuring:
      # While the model is at hand: the report would load it again.
      measured.of(directory, self.measuring, lambda: self.measure(name, trained))
    log.say(f"test {metrics['test_accuracy']:.4f}, "
            f"artifact {metrics['artifact_bytes']:,} bytes")
    # Counted here: a stage that another process completes meanwhile is not run by this one.
    self.stages_run += 1
    return trained.variables, metrics

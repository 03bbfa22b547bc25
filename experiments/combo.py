"""The sixteen combinations of "Combinatorics with model compression" (Figure 6).

Distillation, iterative pruning, factorization, quantization, in this order; a
combination starts from the one without its last technique, so that sixteen
combinations are the base model and fifteen stages.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments import data as data_lib
from experiments import recipes, report, study
from experiments.combo_config import check, selected
from experiments.progress import Log, say


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it, and writes its report.

  Args:
    config: from `configs/combo.py`.
    workdir: where stages and results go.
    data_dir: see `data.builder`.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration or a file cannot be used; the
      message names it.
  """
  check(config)
  builder = data_lib.builder(config.data.name, data_dir)
  rows, trained = [], 0
  for seed in range(config.seed, config.seed + config.seeds):
    combinations = Combinations(config, workdir, builder, seed)
    rows += [combinations.row(combo) for combo in selected(config)]
    trained += combinations.stages_run
  say(f"stages run now: {trained}; the rest was complete in {workdir}")
  report.write(rows, workdir, config)
  return rows


class Combinations(study.Study):
  """One seed of the study: the tree of stages."""

  def __init__(self, config: Any, workdir: Path, builder: Any, seed: int):
    super().__init__(config, workdir, builder, seed)
    self.stages_run = 0
    self._results: dict[str, cj.stages.Result] = {}

  def stage(self, combo: str) -> cj.stages.Stage:
    """Returns the stage that ends a combination; its parents are the prefixes."""
    parts = [] if combo == "base" else combo.split("+")
    technique = parts[-1] if parts else "base"
    spec = {"technique": technique, "seed": self.seed, "data": self.config.data.to_dict(),
            "recipe": self.config[technique].to_dict(),
            "model": self.config[self._model(combo)].to_dict(),
            "compute_dtype": self.config.compute_dtype}
    parent = self.stage("+".join(parts[:-1]) or "base") if parts else None
    return cj.stages.Stage(name=combo, spec=spec, parent=parent, data=self.fingerprint)

  def result(self, combo: str) -> cj.stages.Result:
    """Returns a combination's result, after running what is missing before it."""
    if combo not in self._results:
      stage = self.stage(combo)
      known = cj.stages.find(stage, self.workdir)
      if known is None:
        if stage.parent:
          self.result(stage.parent.name)
        self.stages_run += 1
        known = cj.stages.run(stage, self.workdir, lambda directory: self._work(combo, directory))
      # The state of training is kept until the stage is complete, not longer.
      shutil.rmtree(known.directory / "work", ignore_errors=True)
      self._results[combo] = known
    return self._results[combo]

  def row(self, combo: str) -> dict[str, Any]:
    """Returns a combination's row of results.csv."""
    result, base = self.result(combo), self.result("base")
    metrics = dict(result.metrics)
    seconds = sum(self.result(s.name).metrics["seconds"] for s in result.stage.lineage())
    size = {k: metrics[k] for k in ("params", "nonzero_params", "dense_bytes", "nonzero_bytes",
                                    "gzip_bytes", "artifact_bytes")}
    artifact = (result.directory / "model.cjx").relative_to(self.workdir)
    return {"combo": combo, "seed": self.seed, "test_accuracy": metrics["test_accuracy"],
            "val_accuracy": metrics["val_accuracy"], **size,
            "reduction": round(1 - size["artifact_bytes"] / base.metrics["dense_bytes"], 6),
            "artifact": str(artifact), "seconds": round(seconds, 1)}

  def _model(self, combo: str) -> str:
    return "student" if combo.startswith("kd") else "teacher"

  def _trained(self, combo: str) -> recipes.Trained:
    """Returns the model at the end of a combination that others start from."""
    c = self.config[self._model(combo)]
    return recipes.Trained(name=c.name, arguments=self._arguments(combo),
                           variables=self.result(combo).load())

  def _arguments(self, combo: str) -> dict[str, Any]:
    return {**self.config[self._model(combo)].arguments.to_dict(),
            "dtype": self.config.compute_dtype}

  def _work(self, combo: str, directory: Path) -> tuple[Any, dict[str, Any]]:
    """Makes one combination from its parent."""
    log = Log(combo, directory / "log.txt")
    log.say(f"starts (seed {self.seed})")
    trained, extra = self._apply(combo, directory / "work", log)
    metrics = {**self.deploy(trained, directory, combo=combo), **extra}
    log.say(f"test {metrics['test_accuracy']:.4f}, "
        f"artifact {metrics['artifact_bytes']:,} bytes")
    return trained.variables, metrics

  def _apply(self, combo: str, work: Path, log: Log) -> recipes.Outcome:
    """Runs the technique that a combination ends with."""
    c, parts = self.config, combo.split("+")
    technique, parent = parts[-1], "+".join(parts[:-1]) or "base"
    model = c[self._model(combo)]
    arguments = self._arguments(combo)
    if technique == "base":
      return recipes.teach(model.name, arguments, self.data, self.recipe(c.base), work, log)
    if technique == "kd":
      return recipes.distil(self._trained(parent), model.name, arguments, self.data,
                            self.recipe(c.kd), work, log, temperature=c.kd.temperature,
                            alpha=c.kd.alpha)
    if technique == "imp":
      return recipes.prune_iteratively(
          self._trained(parent), self.data, self.recipe(c.imp), work, log,
          fraction=c.imp.fraction, tolerance=c.imp.tolerance, rounds=c.imp.rounds)
    if technique == "lrtf":
      return recipes.factorize(self._trained(parent), rank=c.lrtf.rank, delta=c.lrtf.delta)
    return recipes.quantize(self._trained(parent), self.data, bits=c.q.bits,
                            activation_bits=c.q.activation_bits, images=c.q.images)

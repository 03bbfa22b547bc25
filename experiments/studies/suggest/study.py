"""Suggests a compressed model within limits: the study around `cj.search`.

The future work of "An analysis of compression methods" (section VIII).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import compress_jax as cj
from compress_jax.search import Choice, Limits, Point, Table
from experiments import hosts
from experiments.studies import base, measured, seeds
from experiments.studies.manner import Manner
from experiments.studies.suggest import as_json, baselines, report, scoring
from experiments.studies.suggest.config import LIMITS, check, limits_of, named
from experiments.training import techniques
from experiments.training.progress import Log

# Stages of uniform plans, and what is ranked together in them.
SCOPES = {"uniform": "layer", "global": "global"}

# By the field of `Limits`: how a result says by how much it misses one.
_MISSES = {"max_drop": "max_accuracy_drop by {:.4f}", "max_bytes": "max_bytes by {:,.0f}",
           "max_latency_ms": "max_latency_ms by {:.3f}"}


def run(config: Any, workdir: Path, data_dir: str | None = None, *,
        manner: Manner = Manner()) -> list[dict[str, Any]]:  # noqa: B008, it is frozen
  """Runs the study, or what is missing of it, and writes its report.

  Results go into a folder of the workdir that the limits name.

  Args:
    config: from `configs/suggest.py`.
    workdir: where stages and results go.
    data_dir: see `builders.builder`.
    manner: how it is run.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration, the data or a file cannot be used.
    StudyFailed: a stage failed; what there is was reported.
  """
  check(config)  # before its limits name a folder
  results = workdir / "-".join(named(config))
  return seeds.run(Suggest, check, report.write, config, workdir, data_dir, results, manner=manner)


class Suggest(base.Study):
  """One seed of the study: base, sensitivity, search, and what is deployed."""

  def check(self) -> None:
    """Raises a ValueError too where several processes train together."""
    super().check()
    if hosts.several():
      # Its plans follow from times, which each process takes for itself.
      raise ValueError("--distributed: configs/suggest.py must run in one process")

  @property
  def names(self) -> Sequence[str]:
    """The base model, the plans that are deployed, and two that treat layers alike."""
    return ["base", *self.tried, *SCOPES]

  @functools.cached_property
  def tried(self) -> Sequence[str]:
    """The best of the search, and points of its front ("front0" is the smallest).

    Where accuracy alone is limited and models are fine-tuned, these halve the front again
    and again in search of the smallest that recovers; else they are the next best.
    """
    found = self.result("search").metrics
    best = found["front"].index(found["best"])
    if limits_of(self.config).hardware or not self.config.finetune.train.epochs:
      return self._next_best(found, best)
    return self._halving(found, best)

  def _next_best(self, found: Mapping[str, Any], best: int) -> list[str]:
    """Returns the best and the points of the front that come next within the limits."""
    front = [found["points"][i] for i in found["front"]]
    order = self._order([Point(**point) for point in front], Point(**found["points"][0]))
    others = [f"front{i}" for i in order if i != best]
    return ["best", *others[:self.config.deploy]]

  def _halving(self, found: Mapping[str, Any], best: int) -> list[str]:
    """Returns the best and the points that a search for the smallest that recovers deploys."""
    names, low, high = ["best"], self._hopeful(found), best
    while low < high and len(names) <= self.config.deploy:
      middle = (low + high) // 2
      names.append(f"front{middle}")
      # Deployed here and now: whether it recovers says in which half to go on.
      if not self.has(names[-1]) or self._misses(names[-1]):
        low = middle + 1
      else:
        high = middle
    return names

  def _hopeful(self, found: Mapping[str, Any]) -> int:
    """Returns the first place of the front that is half as accurate as the base model."""
    scores = [found["points"][i]["score"] for i in found["front"]]
    return next(i for i, score in enumerate(scores) if score >= scores[-1] / 2)

  @functools.cached_property
  def chosen(self) -> str:
    """Whichever of the base model and the tried ones is best within the limits."""
    names = [name for name in ("base", *self.tried) if self.has(name)]
    points = [self._point(name) for name in names]
    return names[self._order(points, points[0])[0]]

  def _order(self, points: Sequence[Point], base: Point) -> list[int]:
    """Returns the places of points, the best within the limits first."""
    score = np.array([point.score for point in points])
    nbytes = np.array([point.bytes for point in points])
    # Latencies are None where none is limited.
    ms = np.array([point.latency_ms or 0.0 for point in points])
    return [int(i) for i in limits_of(self.config).order(score, nbytes, ms, base)]

  def plan(self, name: str) -> dict[str, Choice]:
    """Returns what is done to each layer.

    Args:
      name: "base", or one that was tried.
    """
    return as_json.plan_from_json(self._seen(name))

  def _seen(self, name: str) -> Mapping[str, Any]:
    """Returns the point of the search that "base" or one that was tried is."""
    found = self.result("search").metrics
    if name == "base":
      return found["points"][0]
    if name == "best":
      return found["points"][found["best"]]
    return found["points"][found["front"][int(name.removeprefix("front"))]]

  def _point(self, name: str) -> Point:
    """Returns what was measured of a stage, deployed."""
    metrics = self.result(name).metrics
    return Point(plan={}, score=metrics["val_accuracy"], bytes=metrics["artifact_bytes"],
                 latency_ms=self.measured(name)["milliseconds"])

  def _misses(self, name: str) -> dict[str, float]:
    """Returns by how much a deployed stage misses each limit that it misses."""
    return limits_of(self.config).misses(self._point(name), self._point("base"))

  def parent(self, name: str) -> str | None:
    return {"base": None, "sensitivity": "base", "search": "sensitivity"}.get(name, "search")

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    if name == "sensitivity":
      return {"choices": c.choices.to_dict(), "images": c.search.images}
    if name == "search":
      # How time is measured decides only where there is a limit for it.
      timed = self.fields("batch", "calls") if c.max_latency_ms is not None else {}
      return {"search": c.search.to_dict(), "tuned": bool(c.finetune.train.epochs), **timed,
              **self.fields(*LIMITS)}
    spec = self.fields("finetune")
    if name in SCOPES:
      # The best of so many tries, of the bytes of the one that is chosen.
      spec |= {"most": self._seen(self.chosen)["bytes"], **self.fields("deploy")}
    return spec

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    if name == "sensitivity":
      return self._sensitivity(log)
    if name == "search":
      return self._search(log)
    if name in SCOPES:
      return self._uniform(name, work, log)
    params = cj.search.apply(self.folded.params, self.plan(name))
    return self._recovered(params, "by layer", work, log)

  @property
  def measuring(self) -> Mapping[str, Any]:
    return {**self.fields("calls", "batch"), "machine": measured.machine()}

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, float]:
    """Times a batch through the deployed model.

    Args:
      name: the stage's.
      trained: its model.
    """
    return {"milliseconds": techniques.milliseconds(trained, self.data, calls=self.config.calls,
                                                    batch=self.config.batch)}

  def row(self, name: str) -> dict[str, Any]:
    """Returns a row: also how it was compressed, its accuracy then, and what it misses."""
    details = self.result(name).metrics
    misses = "; ".join(_MISSES[limit].format(by) for limit, by in self._misses(name).items())
    return {**super().row(name), "what": details.get("what", ""), "misses": misses,
            "before_finetuning": details.get("before_finetuning", details["val_accuracy"]),
            "chosen": name == self.chosen}

  @functools.cached_property
  def folded(self) -> techniques.Trained:
    """The base model without batch norms, as it is compressed."""
    return techniques.without_norms(self.trained("base"))

  @functools.cached_property
  def scorer(self) -> scoring.Scorer:
    """Accuracy, bytes and time of compressed parameters."""
    model = self.folded
    metadata = {"model": model.name, "arguments": dict(model.arguments), "lifted": True,
                "num_classes": model.num_classes, "data": self.config.data.name, "combo": "best"}
    return scoring.Scorer(model, scoring.part(self.data.validation, self.config.search.images),
                          self.data, metadata, self.config.calls, self.config.batch)

  def table(self, kind: str) -> Table:
    """Returns what was measured with one layer compressed at a time.

    Args:
      kind: "accuracy", "log_likelihood" or "bytes".
    """
    return as_json.table_from_json(self.result("sensitivity").metrics["tables"][kind])

  def _sensitivity(self, log: Log) -> techniques.Outcome:
    params, c = self.folded.params, self.config.choices
    choices = cj.search.options(params, sparsities=c.sparsities, bits=c.bits, ranks=c.ranks)
    tables = cj.search.sensitivities(
        params, self.scorer.scores, choices,
        progress=lambda done, of: log.say(f"{done} of {of} layers"))
    nbytes = cj.search.layer_bytes(params, choices)
    tables["bytes"] = Table(base=sum(row[Choice()] for row in nbytes.values()), scores=nbytes)
    return self.folded, {"tables": {kind: as_json.table_to_json(table)
                                    for kind, table in tables.items()}}

  def _search(self, log: Log) -> techniques.Outcome:
    params, c, scorer = self.folded.params, self.config, self.scorer
    found = cj.search.suggest(params, scorer.accuracy, self.table(c.search.by),
                              self._search_limits(), size=scorer.size,
                              evaluations=c.search.evaluations, seed=self.seed,
                              nbytes=self.table("bytes").scores, **self._latencies(log))
    outcome = f"nearest misses {found.misses}" if found.misses else "best is within the limits"
    log.say(f"{len(found.points)} plans; {outcome}")
    best = self.folded.with_params(cj.search.apply(params, found.nearest.plan))
    return best, {"points": [as_json.point_to_json(point) for point in found.points],
                  "front": [found.points.index(point) for point in found.front],
                  "best": found.points.index(found.nearest), "misses": found.misses}

  def _search_limits(self) -> Limits:
    c, limits = self.config, limits_of(self.config)
    if c.max_bytes is None or not c.finetune.train.epochs:
      return limits
    # Trained further, values compress a little better or worse: some bytes are kept free.
    return dataclasses.replace(limits, max_bytes=int((1 - c.search.reserve) * c.max_bytes))

  def _latencies(self, log: Log) -> dict[str, Any]:
    """Returns what `cj.search.suggest` needs for a limit on time; {} where there is none."""
    if self.config.max_latency_ms is None:
      return {}
    choices = {path: list(row) for path, row in self.table("accuracy").scores.items()}
    table = cj.search.sensitivity(self.folded.params, self.scorer.milliseconds, choices)
    log.say(f"{table.base:.3f} ms before compression")
    return {"latency": self.scorer.milliseconds, "latency_table": table}

  def _uniform(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    """Returns the best of the plans that treat all layers alike, at the chosen one's bytes."""
    params, most = self.folded.params, self._seen(self.chosen)["bytes"]
    layers = list(self.table("bytes").scores)
    plans = baselines.matched(params, layers, SCOPES[name], self.config.choices.bits,
                              self.scorer.accuracy, self.scorer.size, most)
    # As many as there are of the front: which recovers best is not known before.
    tried = plans[:max(1, self.config.deploy)]
    outcomes = [self._recovered(plan.apply(params, layers), str(plan), work / str(plan), log)
                for plan in tried]
    return max(outcomes, key=lambda outcome: outcome[1]["validation"])

  def _recovered(self, params: Any, what: str, work: Path, log: Log) -> techniques.Outcome:
    """Fine-tunes compressed parameters with masks and grids in place, and freezes them."""
    trained, details = self.folded.with_params(params), {}
    before = after = trained.accuracy(self.data.validation)
    if self.config.finetune.train.epochs:
      tuned, details = techniques.finetune(
          trained, self.data, self.recipe(self.config.finetune), work, log, stream="finetune")
      reached = tuned.accuracy(self.data.validation)
      # Fine-tuning that makes it worse is dropped.
      if reached > before:
        trained, after = tuned, reached
    log.say(f"{what}: validation {before:.4f}, fine-tuned {after:.4f}")
    frozen = dataclasses.replace(trained, variables=cj.freeze(trained.variables), lifted=True)
    return frozen, {**details, "before_finetuning": before, "what": what, "validation": after}

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
from experiments.studies import base
from experiments.studies.suggest import baselines, scoring
from experiments.studies.suggest import report as suggest_report
from experiments.training import techniques
from experiments.training.progress import Log

LIMITS = ("max_bytes", "max_latency_ms", "max_accuracy_drop")
SCOPES = {"uniform": "layer", "global": "global"}


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it, and writes its report; see `base.run`.

  Results go into a folder of the workdir that the limits name.
  """
  check(config)
  results = workdir / "-".join(f"{k}={config[k]:g}" for k in LIMITS if config[k] is not None)
  results.mkdir(exist_ok=True)
  studies, rows = base.run(Suggest, config, workdir, data_dir, results)
  suggest_report.write(studies, rows, results, config)
  return rows


def check(config: Any) -> None:
  """Raises a ValueError that names the first field that cannot be used."""
  given = {k: config[k] for k in LIMITS if config[k] is not None}
  if not given:
    raise ValueError(", ".join(f"config.{k}" for k in LIMITS) + ": give at least one of them, for "
                     "instance --config.max_bytes=20000")
  limits = {**{k: (1e-6, 1e12) for k in LIMITS}, "max_accuracy_drop": (0, 1)}
  for field, value in given.items():
    if not limits[field][0] <= value <= limits[field][1]:
      raise ValueError(f"config.{field}={value}: may be from {limits[field][0]} to "
                       f"{limits[field][1]}")
  counts = {"batch": config.batch, "calls": config.calls, "seeds": config.seeds,
            "search.evaluations": config.search.evaluations - 1}
  for field, value in counts.items():
    if value < 1:
      raise ValueError(f"config.{field}={value}: may be from 1")
  if config.search.by not in ("accuracy", "log_likelihood"):
    raise ValueError(f"config.search.by={config.search.by!r}: may be accuracy or log_likelihood")


def limits_of(config: Any) -> Limits:
  """Returns the limits of a configuration."""
  return Limits(max_bytes=config.max_bytes, max_latency_ms=config.max_latency_ms,
                max_drop=config.max_accuracy_drop)


class Suggest(base.Study):
  """One seed of the study: base, sensitivity, search, and what is deployed."""

  @property
  def names(self) -> Sequence[str]:
    """The base model, the plans that are deployed, and two that treat layers alike."""
    return ["base", *self.tried, *SCOPES]

  @functools.cached_property
  def tried(self) -> Sequence[str]:
    """The best of the search, and points of its front ("front0" is the smallest).

    Where accuracy alone is limited and models are fine-tuned: half-way down the front,
    again and again, for the smallest that recovers. Else the next best.
    """
    found, count = self.result("search").metrics, self.config.deploy
    best = found["front"].index(found["best"])
    if limits_of(self.config).hardware or not self.config.finetune.train.epochs:
      front = [found["points"][i] for i in found["front"]]
      order = self._order([Point(**p) for p in front], Point(**found["points"][0]))
      return ["best", *(f"front{i}" for i in order if i != best)][:count + 1]
    out, low, high = ["best"], self._hopeful(found), best
    while low < high and len(out) <= count:
      middle = (low + high) // 2
      out.append(f"front{middle}")
      low, high = (middle + 1, high) if self._misses(out[-1]) else (low, middle)
    return out

  def _hopeful(self, found: Mapping[str, Any]) -> int:
    """Returns the first place of the front that is half as accurate as the base model."""
    scores = [found["points"][i]["score"] for i in found["front"]]
    return next(i for i, score in enumerate(scores) if score >= scores[-1] / 2)

  @functools.cached_property
  def chosen(self) -> str:
    """Whichever of the base model and the tried ones is best within the limits."""
    names = ["base", *self.tried]
    points = [self._point(name) for name in names]
    return names[self._order(points, points[0])[0]]

  def _order(self, points: Sequence[Point], base: Point) -> list[int]:
    """Returns the places of points, the best within the limits first."""
    score, nbytes, ms = (np.array([getattr(p, k) or 0.0 for p in points])
                         for k in ("score", "bytes", "latency_ms"))
    return [int(i) for i in limits_of(self.config).order(score, nbytes, ms, base)]

  def plan(self, name: str) -> dict[str, Choice]:
    """Returns the plan of the base model or of one that was tried."""
    return {path: Choice(**choice) for path, choice in self._seen(name)["plan"].items()}

  def _seen(self, name: str) -> Mapping[str, Any]:
    found = self.result("search").metrics
    place = {"base": 0, "best": found["best"]}.get(name)
    return found["points"][found["front"][int(name.removeprefix("front"))]
                           if place is None else place]

  def _point(self, name: str) -> Point:
    """Returns what was measured of a stage, deployed."""
    m = self.result(name).metrics
    return Point(plan={}, score=m["val_accuracy"], bytes=m["artifact_bytes"],
                 latency_ms=m["measured"]["milliseconds"])

  def _misses(self, name: str) -> dict[str, float]:
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
      return {"search": c.search.to_dict(), "tuned": bool(c.finetune.train.epochs),
              "batch": c.batch, "calls": c.calls, **{k: c[k] for k in LIMITS}}
    same = {"most": self._seen(self.chosen)["bytes"]} if name in SCOPES else {}
    return {**same, "finetune": c.finetune.to_dict(), "batch": c.batch, "calls": c.calls}

  def make(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    c = self.config
    if name == "base":
      return self.teach(c.model, c.base, work, log)
    if name == "sensitivity":
      return self._sensitivity(log)
    return self._search(log) if name == "search" else self._deployed(name, work, log)

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, float]:
    return {"milliseconds": scoring.milliseconds(trained, self.data, calls=self.config.calls,
                                                 batch=self.config.batch)}

  def row(self, name: str) -> dict[str, Any]:
    """Returns a row: also how it was compressed, its accuracy then, and what it misses."""
    details = self.result(name).metrics
    shown = {"max_drop": "max_accuracy_drop by {:.4f}", "max_bytes": "max_bytes by {:,.0f}",
             "max_latency_ms": "max_latency_ms by {:.3f}"}
    misses = "; ".join(shown[k].format(v) for k, v in self._misses(name).items())
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
    """Returns what was measured by layer: "accuracy", "log_likelihood" or "bytes"."""
    return from_json(self.result("sensitivity").metrics["tables"][kind])

  def _sensitivity(self, log: Log) -> techniques.Outcome:
    params, c = self.folded.variables["params"], self.config.choices
    choices = cj.search.options(params, sparsities=c.sparsities, bits=c.bits, ranks=c.ranks)
    tables = cj.search.sensitivities(
        params, self.scorer.scores, choices,
        progress=lambda done, of: log.say(f"{done} of {of} layers"))
    nbytes = cj.search.layer_bytes(params, choices)
    tables["bytes"] = Table(base=sum(row[Choice()] for row in nbytes.values()), scores=nbytes)
    return self.folded, {"tables": {kind: to_json(t) for kind, t in tables.items()}}

  def _search(self, log: Log) -> techniques.Outcome:
    params, c, scorer = self.folded.variables["params"], self.config, self.scorer
    timed = {}
    if c.max_latency_ms is not None:
      choices = {path: list(row) for path, row in self.table("accuracy").scores.items()}
      timed = {"latency": scorer.milliseconds,
               "latency_table": cj.search.sensitivity(params, scorer.milliseconds, choices)}
      log.say(f"{timed['latency_table'].base:.3f} ms before compression")
    limits = limits_of(c)
    if c.max_bytes is not None and c.finetune.train.epochs:
      # Trained further, values compress a little better or worse.
      limits = dataclasses.replace(limits, max_bytes=int((1 - c.search.reserve) * c.max_bytes))
    found = cj.search.suggest(params, scorer.accuracy, self.table(c.search.by), limits,
                              size=scorer.size, evaluations=c.search.evaluations, seed=self.seed,
                              nbytes=self.table("bytes").scores, **timed)
    log.say(f"{len(found.points)} plans; " + (
        f"nearest misses {found.misses}" if found.misses else "best is within the limits"))
    best = dataclasses.replace(self.folded, variables={
        "params": cj.search.apply(params, found.nearest.plan)})
    return best, {"points": [_point(p) for p in found.points],
                  "front": [found.points.index(p) for p in found.front],
                  "best": found.points.index(found.nearest), "misses": found.misses}

  def _deployed(self, name: str, work: Path, log: Log) -> techniques.Outcome:
    params = self.folded.variables["params"]
    if name not in SCOPES:
      return self._recovered(cj.search.apply(params, self.plan(name)), "by layer", work, log)
    layers, most = list(self.table("bytes").scores), self._seen(self.chosen)["bytes"]
    some = baselines.matched(params, layers, SCOPES[name], self.config.choices.bits,
                             self.scorer.accuracy, self.scorer.size, most)
    # As many as there are of the front: which recovers best is not known before.
    outcomes = [self._recovered(same.apply(params, layers), str(same), work / f"{same}", log)
                for same in some[:max(1, self.config.deploy)]]
    return max(outcomes, key=lambda outcome: outcome[1]["validation"])

  def _recovered(self, params: Any, what: str, work: Path, log: Log) -> techniques.Outcome:
    """Fine-tunes compressed parameters with masks and grids in place, and freezes them."""
    trained, details = dataclasses.replace(self.folded, variables={"params": params}), {}
    before = after = trained.accuracy(self.data.validation)
    if self.config.finetune.train.epochs:
      tuned, details = techniques.finetune(
          trained, self.data, self.recipe(self.config.finetune), work, log)
      after = max(before, tuned.accuracy(self.data.validation))
      trained = tuned if after > before else trained
    log.say(f"{what}: validation {before:.4f}, fine-tuned {after:.4f}")
    frozen = dataclasses.replace(trained, variables=cj.freeze(trained.variables), lifted=True)
    return frozen, {**details, "before_finetuning": before, "what": what, "validation": after}


def _plan(plan: cj.search.Plan) -> dict[str, Any]:
  return {path: dataclasses.asdict(choice) for path, choice in plan.items()}


def _point(p: Point) -> dict[str, Any]:
  return {"plan": _plan(p.plan), "score": p.score, "bytes": p.bytes, "latency_ms": p.latency_ms}


def to_json(table: Table) -> dict[str, Any]:
  """Returns a table as JSON."""
  return {"base": table.base, "scores": {
      path: [{"choice": dataclasses.asdict(c), "score": s} for c, s in row.items()]
      for path, row in table.scores.items()}}


def from_json(value: Mapping[str, Any]) -> Table:
  """Returns the table that `to_json` wrote."""
  return Table(base=value["base"], scores={
      path: {Choice(**e["choice"]): e["score"] for e in row}
      for path, row in value["scores"].items()})

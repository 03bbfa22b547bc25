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
from experiments import baselines, data, recipes, scoring, study, suggest_report
from experiments.progress import Log

LIMITS = ("max_bytes", "max_latency_ms", "max_accuracy_drop")
SCOPES = {"uniform": "layer", "global": "global"}


def run(config: Any, workdir: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
  """Runs the study, or what is missing of it, and writes its report.

  Args:
    config: from `configs/suggest.py`.
    workdir: where stages go; results go into a folder of it that the limits name.
    data_dir: see `data.builder`.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration cannot be used, or no limit is
      given; the message names it.
  """
  check(config)
  results = workdir / "-".join(f"{k}={config[k]:g}" for k in LIMITS if config[k] is not None)
  results.mkdir(exist_ok=True)
  builder = data.builder(config.data.name, data_dir)
  studies, rows = study.run(Suggest, config, workdir, builder, results)
  for one in studies:
    one.mark([row for row in rows if row["seed"] == one.seed])
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


class Suggest(study.Study):
  """One seed of the study: base, sensitivity, search, and what is deployed."""

  @property
  def names(self) -> Sequence[str]:
    """The base model, the best, points of the front, and those that treat layers alike."""
    return ["base", *self.result("search").metrics["deploy"]]

  def parent(self, name: str) -> str | None:
    return {"base": None, "sensitivity": "base", "search": "sensitivity"}.get(name, "search")

  def spec(self, name: str) -> Mapping[str, Any]:
    c = self.config
    if name == "base":
      return self.base_spec(c.model, c.base)
    if name == "sensitivity":
      return {"choices": c.choices.to_dict(), "images": c.search.images}
    if name == "search":
      return {"search": c.search.to_dict(), "deploy": c.deploy, "batch": c.batch,
              "calls": c.calls, **{k: c[k] for k in LIMITS}}
    return {"finetune": c.finetune.to_dict(), "batch": c.batch, "calls": c.calls}

  def make(self, name: str, work: Path, log: Log) -> recipes.Outcome:
    c = self.config
    if name == "base":
      return recipes.teach(c.model.name, self.arguments(c.model), self.data, self.recipe(c.base),
                           work, log)
    if name == "sensitivity":
      return self._sensitivity(log)
    return self._search(log) if name == "search" else self._deployed(name, work, log)

  def measure(self, name: str, trained: recipes.Trained) -> Mapping[str, float]:
    return {"milliseconds": recipes.milliseconds(trained, self.data, calls=self.config.calls,
                                                 batch=self.config.batch)}

  def row(self, name: str) -> dict[str, Any]:
    """Returns a row; `what` says how the model was compressed."""
    about = {} if name == "base" else self.result("search").metrics["deploy"][name]
    return {**super().row(name), "what": about.get("what", "")}

  def mark(self, rows: list[dict[str, Any]]) -> None:
    """Adds to this seed's rows by how much they miss limits, and which one is chosen."""
    limits = limits_of(self.config)
    points = [Point(plan={}, score=r["val_accuracy"], bytes=r["artifact_bytes"],
                    latency_ms=r["milliseconds"]) for r in rows]
    for row, point in zip(rows, points, strict=True):
      row["misses"] = "; ".join(f"{k} by {v:.4g}" for k, v in
                                limits.misses(point, points[0]).items())
      row["chosen"] = False
    score, nbytes, ms = (np.array([getattr(p, k) for p in points])
                         for k in ("score", "bytes", "latency_ms"))
    order = limits.order(score, nbytes, ms, points[0])
    rows[next(i for i in order if rows[i]["combo"] not in SCOPES)]["chosen"] = True

  @functools.cached_property
  def folded(self) -> recipes.Trained:
    """The base model without batch norms, as it is compressed."""
    return recipes.without_norms(self.trained("base"))

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

  def _sensitivity(self, log: Log) -> recipes.Outcome:
    params, c = self.folded.variables["params"], self.config.choices
    choices = cj.search.options(params, sparsities=c.sparsities, bits=c.bits, ranks=c.ranks)
    tables = cj.search.sensitivities(
        params, self.scorer.scores, choices,
        progress=lambda done, of: log.say(f"{done} of {of} layers"))
    nbytes = cj.search.layer_bytes(params, choices)
    tables["bytes"] = Table(base=sum(row[Choice()] for row in nbytes.values()), scores=nbytes)
    return self.folded, {"tables": {kind: to_json(t) for kind, t in tables.items()}}

  def _search(self, log: Log) -> recipes.Outcome:
    params, c, scorer = self.folded.variables["params"], self.config, self.scorer
    timed = {}
    if c.max_latency_ms is not None:
      choices = {path: list(row) for path, row in self.table("accuracy").scores.items()}
      timed = {"latency": scorer.milliseconds,
               "latency_table": cj.search.sensitivity(params, scorer.milliseconds, choices)}
      log.say(f"{timed['latency_table'].base:.3f} ms before compression")
    found = cj.search.suggest(params, scorer.accuracy, self.table(c.search.by), limits_of(c),
                              size=scorer.size, evaluations=c.search.evaluations, seed=self.seed,
                              nbytes=self.table("bytes").scores, **timed)
    log.say(f"{len(found.points)} plans; " + (
        f"nearest misses {found.misses}" if found.misses else "best is within the limits"))
    best = dataclasses.replace(self.folded, variables={
        "params": cj.search.apply(params, found.nearest.plan)})
    return best, {"points": [_point(p) for p in found.points],
                  "front": [found.points.index(p) for p in found.front],
                  "best": found.points.index(found.nearest), "misses": found.misses,
                  "deploy": self._chosen(found, log)}

  def _chosen(self, found: cj.search.Suggestion, log: Log) -> dict[str, Any]:
    """Returns what is deployed, by name: the best, points near it, layers alike."""
    out = {"best": {"plan": _plan(found.nearest.plan), "what": "by layer"}}
    for i, p in enumerate(_near(found, self.config.deploy)):
      out[f"front{i + 1}"] = {"plan": _plan(p.plan), "what": "by layer"}
    params, layers = self.folded.variables["params"], list(found.nearest.plan)
    for name, scope in SCOPES.items():
      same, accuracy, nbytes = baselines.matched(
          params, layers, scope, self.config.choices.bits, self.scorer.accuracy, self.scorer.size,
          found.nearest.bytes)
      if same:
        log.say(f"{name}: {same}, validation {accuracy:.4f}, {nbytes:,} bytes")
        out[name] = {"same": dataclasses.asdict(same), "what": str(same), "bytes": nbytes,
                     "score": accuracy}
    return out

  def _deployed(self, name: str, work: Path, log: Log) -> recipes.Outcome:
    about, params = self.result("search").metrics["deploy"][name], self.folded.variables["params"]
    if "plan" in about:
      plan = {path: Choice(**choice) for path, choice in about["plan"].items()}
      params = cj.search.apply(params, plan)
    else:
      params = baselines.Same(**about["same"]).apply(params, list(self.table("accuracy").scores))
    trained = dataclasses.replace(self.folded, variables={"params": params})
    before, details = trained.accuracy(self.data.validation), {}
    if self.config.finetune.train.epochs:
      tuned, details = recipes.finetune(trained, self.data, self.recipe(self.config.finetune), work,
                                        log)
      better = tuned.accuracy(self.data.validation) >= before
      trained = tuned if better else trained
    frozen = dataclasses.replace(trained, variables=cj.freeze(trained.variables), lifted=True)
    return frozen, {**details, "val_accuracy_before": before}


def _near(found: cj.search.Suggestion, count: int) -> list[Point]:
  """Returns points of the front, spread over those that lose little more than the best."""
  worst = found.base.score - 2 * max(found.base.score - found.nearest.score, 0.02)
  some = [p for p in found.front if p.score >= worst and p not in (found.nearest, found.base)]
  picked = np.linspace(0, len(some) - 1, min(count, len(some))).round().astype(int)
  return [some[i] for i in dict.fromkeys(picked.tolist())]


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

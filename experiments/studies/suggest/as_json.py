"""Tables, plans and points of a search as JSON, which a stage's metrics.json holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compress_jax.search import Choice, Point, Table


def table_to_json(table: Table) -> dict[str, Any]:
  """Returns a table as JSON.

  Args:
    table: a score for each layer and choice.
  """
  scores = {}
  for path, row in table.scores.items():
    scores[path] = [{"choice": dataclasses.asdict(choice), "score": score}
                    for choice, score in row.items()]
  return {"base": table.base, "scores": scores}


def table_from_json(value: Mapping[str, Any]) -> Table:
  """Returns a table that was written as JSON.

  Args:
    value: what `table_to_json` returned.
  """
  scores = {}
  for path, row in value["scores"].items():
    scores[path] = {Choice(**entry["choice"]): entry["score"] for entry in row}
  return Table(base=value["base"], scores=scores)


def point_to_json(point: Point) -> dict[str, Any]:
  """Returns a point as JSON.

  Args:
    point: of a search, with its plan.
  """
  plan = {path: dataclasses.asdict(choice) for path, choice in point.plan.items()}
  return {"plan": plan, "score": point.score, "bytes": point.bytes,
          "latency_ms": point.latency_ms}


def plan_from_json(value: Mapping[str, Any]) -> dict[str, Choice]:
  """Returns the plan of a point that was written as JSON.

  Args:
    value: what `point_to_json` returned.
  """
  return {path: Choice(**choice) for path, choice in value["plan"].items()}

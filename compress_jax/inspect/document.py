"""An inspection as one JSON document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from compress_jax.inspect import columns
from compress_jax.inspect.diff import Diff
from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import Inspection


def document(found: Inspection, rows: Sequence[columns.Row] | None = None,
             diff: Diff | None = None) -> dict[str, Any]:
  """Returns what `--json` prints.

  Args:
    found: the inspection.
    rows: its leaves, chosen and sorted; None for all. Of a workdir, its stages'.
    diff: what is compared.

  Returns:
    Dicts, lists and plain values: path, name, what, leaves, totals, metadata,
    lineage, stages, failures, unread, unmeasured; and diff.
  """
  made = {"path": str(found.path), "name": found.name, "what": found.what,
          "failures": list(found.failures), "unread": list(found.unread),
          "unmeasured": list(found.unmeasured), "lineage": [_stage(s) for s in found.lineage]}
  if found.what == "workdir":
    made["stages"] = [document(stage, _rows_of(stage, rows)) for stage in found.stages]
  else:
    leaves = columns.leaf_rows(found) if rows is None else rows
    made |= {"leaves": list(leaves), "totals": found.totals, "metadata": found.metadata}
  if diff is not None:
    made["diff"] = _diff(diff)
  return plain(made)


def _rows_of(stage: Inspection, rows: Sequence[columns.Row] | None) -> list[columns.Row] | None:
  """Returns the rows that are a stage's, without its name."""
  if rows is None:
    return None
  own = []
  # The document says by its place which stage a row is of.
  for row in rows:
    if row["stage"] == stage.name:
      own.append({name: value for name, value in row.items() if name != "stage"})
  return own


def _diff(diff: Diff) -> dict[str, Any]:
  totals = {name: {"before": before, "after": after}
            for name, (before, after) in diff.totals.items()}
  return {"before": diff.before, "after": diff.after, "leaves": list(diff.rows),
          "totals": totals}


def _stage(stage: Stage) -> dict[str, Any]:
  return {"id": stage.id, "name": stage.name, "parent": stage.parent, "spec": stage.spec,
          "data": stage.data, "version": stage.version, "metrics": stage.metrics,
          "artifact_bytes": stage.artifact_bytes, "failed": stage.failed or None}


def plain(value: Any) -> Any:
  """Returns a value made of what JSON knows.

  Args:
    value: nested dicts, lists, tuples and plain values.

  Returns:
    Dicts, lists and plain values; NaN and infinities, which JSON has no words for, are None.

  Example:
    >>> plain({"loss": (1.0, float("nan"))})
    {'loss': [1.0, None]}
  """
  if isinstance(value, Mapping):
    return {str(key): plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [plain(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value

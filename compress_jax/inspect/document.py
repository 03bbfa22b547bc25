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
    lineage, stages, failures; and diff.
  """
  made = {"path": str(found.path), "name": found.name, "what": found.what,
          "failures": list(found.failures), "lineage": [_stage(s) for s in found.lineage]}
  if found.what == "workdir":
    chosen = None if rows is None else list(rows)
    made["stages"] = [
        document(s, None if chosen is None else [
            {k: v for k, v in r.items() if k != "stage"} for r in chosen if r["stage"] == s.name])
        for s in found.stages]
  else:
    leaves = columns.leaf_rows(found) if rows is None else rows
    made |= {"leaves": list(leaves), "totals": found.totals, "metadata": found.metadata}
  if diff:
    made["diff"] = {"before": diff.before, "after": diff.after, "leaves": list(diff.rows),
                    "totals": {k: {"before": a, "after": b} for k, (a, b) in diff.totals.items()}}
  return plain(made)


def _stage(stage: Stage) -> dict[str, Any]:
  return {"id": stage.id, "name": stage.name, "parent": stage.parent, "spec": stage.spec,
          "data": stage.data, "version": stage.version, "metrics": stage.metrics,
          "artifact_bytes": stage.artifact_bytes}


def plain(value: Any) -> Any:
  """Returns a value of what JSON knows: NaN and infinities become null.

  Example:
    >>> plain({"loss": (1.0, float("nan"))})
    {'loss': [1.0, None]}
  """
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value

"""Two checkpoints side by side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from compress_jax.inspect.reader import InspectError, Inspection
from compress_jax.io import containers
from compress_jax.io.leaf_summary import LeafSummary, too_large
from compress_jax.leaves import dense_of

_SLICE = 1 << 20  # numbers


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff:
  """What changed from one checkpoint to another.

  Attributes:
    before: name of the one.
    after: name of the other.
    rows: one per leaf of either: path, kinds, packed bytes, sparsities, `change`.
    totals: {measure: (before, after)}: sizes, sparsity, accuracies; None if not known.
  """

  before: str
  after: str
  rows: tuple[dict[str, Any], ...]
  totals: dict[str, tuple[float | None, float | None]]


def compare(before: Inspection, after: Inspection, params_before: Any, params: Any) -> Diff:
  """Compares two measured checkpoints, leaf by leaf.

  Args:
    before: from `reader.measured`; no workdir.
    after: likewise.
    params_before: its tree.
    params: the other's.

  Returns:
    The differences; `change` is ‖after - before‖ / ‖before‖ of the dense weights,
    None where a layer is in one of them only, or has another shape.

  Raises:
    InspectError: one is a workdir.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> from compress_jax.inspect import read
    >>> w = {"w": jnp.array([[3.0, 4.0]])}
    >>> trees, found = [w, cj.prune.magnitude(w, 0.5)], []
    >>> for params in trees:
    ...   path = tempfile.mkdtemp() + "/step"
    ...   cj.checkpoint.save(path, params)
    ...   found.append(read(path))
    >>> diff = compare(*found, *trees)
    >>> diff.rows[0]["change"], diff.totals["sparsity"]
    (0.6, (0.0, 0.5))
  """
  for found in (before, after):
    if found.what == "workdir":
      raise InspectError(f"{found.path}: a workdir; --diff compares two checkpoints, stages or "
                         "artifacts, for instance two of its stages/")
  leaves_before = {leaf.path: leaf for leaf in before.leaves}
  leaves_after = {leaf.path: leaf for leaf in after.leaves}
  weights_before = dict(containers.measurable(params_before))
  weights_after = dict(containers.measurable(params))
  rows = []
  # Leaves that are gone come last.
  for path in dict.fromkeys([*leaves_after, *leaves_before]):
    change = relative_change(weights_before.get(path), weights_after.get(path))
    rows.append(_row(path, leaves_before.get(path), leaves_after.get(path), change))
  if _folded(leaves_before, leaves_after):
    rows = [_said_folded(row) for row in rows]
  return Diff(before=before.name, after=after.name, rows=tuple(rows),
              totals=_totals(before, after))


def _folded(before: Iterable[str], after: Iterable[str]) -> bool:
  """Returns whether all that is gone are norms, and all that is new are biases."""
  gone, new = set(before) - set(after), set(after) - set(before)
  if not gone or not new or not all(path.endswith("bias") for path in new):
    return False
  # A norm is a scale with what lies beside it, or running statistics.
  norms = {path.rpartition("/")[0] for path in gone if path.endswith(("scale", "mean"))}
  return all(path.rpartition("/")[0] in norms for path in gone)


def _said_folded(row: dict[str, Any]) -> dict[str, Any]:
  """Returns a row that says on the side where there is nothing that it was folded."""
  if row["kind"] is None:
    return {**row, "kind": "folded"}
  if row["kind_before"] is None:
    return {**row, "kind_before": "folded"}
  return row


def _row(path: str, before: LeafSummary | None, after: LeafSummary | None,
         change: float | None) -> dict[str, Any]:
  row: dict[str, Any] = dict.fromkeys(("path", "kind_before", "kind", "packed_before",
                                       "packed_bytes", "ratio", "sparsity_before", "sparsity"))
  row |= {"path": path, "change": change}
  if before is not None:
    row |= {"kind_before": before.kind, "packed_before": before.packed_bytes,
            "sparsity_before": before.sparsity}
  if after is not None:
    row |= {"kind": after.kind, "packed_bytes": after.packed_bytes, "sparsity": after.sparsity}
  # No ratio where a leaf is in one of them only, where nothing is known, or to nothing.
  if row["packed_before"] and row["packed_bytes"]:
    row["ratio"] = row["packed_bytes"] / row["packed_before"]
  return row


def relative_change(before: Any, after: Any) -> float | None:
  """Returns ‖after - before‖ / ‖before‖ of two arrays or leaves.

  Args:
    before: array or leaf, or None.
    after: likewise.

  Returns:
    The ratio, NaN where one of them holds NaN; None where one is missing or too large, where
    shapes differ, or where it is not finite.

  Example:
    >>> import numpy as np
    >>> relative_change(np.array([3.0, 4.0]), np.array([3.0, 4.0])), relative_change(None, 1)
    (0.0, None)
  """
  if before is None or after is None or np.shape(before) != np.shape(after):
    return None
  if too_large(before) or too_large(after):
    return None
  old, new = (np.asarray(dense_of(x)).ravel() for x in (before, after))
  moved, length = 0.0, 0.0
  # A slice at a time: all of a large layer in double precision would take many times its memory.
  for start in range(0, old.size, _SLICE):
    past, now = (_doubles(x[start:start + _SLICE]) for x in (old, new))
    if np.isnan(past).any() or np.isnan(now).any():
      return math.nan
    moved += _squares(now - past)
    length += _squares(past)
  if moved == 0:
    return 0.0  # also of zeros that stayed
  if length == 0 or not math.isfinite(moved / length):
    return None
  return math.sqrt(moved / length)


def _doubles(values: np.ndarray) -> np.ndarray:
  return values.astype(np.complex128 if np.iscomplexobj(values) else np.float64)


def _squares(values: np.ndarray) -> float:
  """Returns the sum of the squares of absolute values."""
  return float(np.vdot(values, values).real)


def _totals(before: Inspection, after: Inspection) -> dict[str, tuple[Any, Any]]:
  old, new = _measures(before), _measures(after)
  return {name: (old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])}


def _measures(found: Inspection) -> dict[str, float | None]:
  """Returns sizes and sparsity of the leaves, and the accuracies of their stage."""
  accuracies = {name: value for name, value in found.numbers.items() if "accuracy" in name}
  return found.totals | accuracies

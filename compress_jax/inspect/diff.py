"""Two checkpoints side by side."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.inspect.reader import InspectError, Inspection
from compress_jax.leaves import dense_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diff:
  """What changed from one checkpoint to another.

  Attributes:
    before: name of the one.
    after: name of the other.
    rows: one a leaf of either: path, kinds, packed bytes, sparsities, `change`.
    totals: {measure: (before, after)}: sizes, sparsity, accuracies; None if not known.
  """

  before: str
  after: str
  rows: tuple[dict[str, Any], ...]
  totals: dict[str, tuple[float | None, float | None]]


def compare(before: Inspection, after: Inspection, params_before: Any, params: Any) -> Diff:
  """Compares two measured checkpoints, layer by layer.

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
  sides = [{leaf.path: leaf for leaf in found.leaves} for found in (before, after)]
  weights = [dict(tree.entries(p)[0]) for p in (params_before, params)]
  rows = []
  for path in dict.fromkeys([*sides[1], *sides[0]]):
    old, new = (side.get(path) for side in sides)
    sizes = [leaf and leaf.packed_bytes for leaf in (old, new)]
    rows.append({
        "path": path, "kind_before": old and old.kind, "kind": new and new.kind,
        "packed_before": sizes[0], "packed_bytes": sizes[1],
        "ratio": sizes[1] / sizes[0] if all(sizes) else None,
        "sparsity_before": old and old.sparsity, "sparsity": new and new.sparsity,
        "change": relative_change(*(w.get(path) for w in weights))})
  return Diff(before=before.name, after=after.name, rows=tuple(rows),
              totals=_totals(before, after))


def relative_change(before: Any, after: Any) -> float | None:
  """Returns ‖after - before‖ / ‖before‖ of two arrays or leaves, or None.

  Example:
    >>> import numpy as np
    >>> relative_change(np.array([3.0, 4.0]), np.array([3.0, 4.0])), relative_change(None, 1)
    (0.0, None)
  """
  if before is None or after is None or np.shape(before) != np.shape(after):
    return None
  a, b = (np.asarray(dense_of(x)).astype(np.float64) for x in (before, after))
  moved, length = float(np.linalg.norm(b - a)), float(np.linalg.norm(a))
  if moved == 0:
    return 0.0
  return moved / length if length and np.isfinite(moved / length) else None


def _totals(before: Inspection, after: Inspection) -> dict[str, tuple[Any, Any]]:
  sides = [found.totals | {k: v for k, v in (found.stage.numbers if found.stage else {}).items()
                           if "accuracy" in k} for found in (before, after)]
  return {k: (sides[0].get(k), sides[1].get(k)) for k in dict.fromkeys([*sides[0], *sides[1]])}

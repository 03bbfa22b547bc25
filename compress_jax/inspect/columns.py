"""Rows of tables, for terminal, pages and JSON: values, headings, texts, order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import Inspection
from compress_jax.io import leaf_summary

Row = Mapping[str, Any]

LEAF = ("path", "kind", "shape", "dtype", "params", "sparsity", "block_sparsity", "rank", "bits",
        "input_bits", "scale_max", "dense_bytes", "nonzero_bytes", "packed_bytes", "gzip_bytes",
        "share")
STAGE = ("stage", "parent", "test_accuracy", "val_accuracy", "sparsity", "dense_bytes",
         "nonzero_bytes", "packed_bytes", "gzip_bytes", "artifact_bytes", "seconds")
DIFF = ("path", "kind_before", "kind", "packed_before", "packed_bytes", "ratio",
        "sparsity_before", "sparsity", "change")

HEADINGS = {
    "kind": "what", "block_sparsity": "empty blocks", "input_bits": "input bits",
    "scale_max": "scale", "dense_bytes": "dense B", "nonzero_bytes": "nonzero B",
    "packed_bytes": "packed B", "gzip_bytes": "gzip B", "artifact_bytes": "file B",
    "test_accuracy": "test accuracy", "val_accuracy": "val accuracy", "kind_before": "what, before",
    "packed_before": "packed B, before", "sparsity_before": "sparsity, before",
    "ratio": "packed ratio", "nonzero_params": "non-zero",
    "nonzero": "non-zero"}
HELP = {
    "params": "numbers that the leaf is made of; a low-rank leaf's are its factors'",
    "sparsity": "fraction of these that is zero",
    "block_sparsity": "fraction of blocks with nothing but zeros",
    "bits": "of a stored weight, when deployed",
    "input_bits": "of the layer's quantized input",
    "scale_max": "smallest and largest step of the grids",
    "dense_bytes": "elements × bytes of their dtype",
    "nonzero_bytes": "non-zero elements × bits of their stored type; masks not counted",
    "packed_bytes": "every stored element at its bits, masks and scales included",
    "gzip_bytes": "the stored arrays, zeros in place, through gzip; masks not counted",
    "artifact_bytes": "the deployable file",
    "share": "of the total of packed bytes (of dense bytes where those are not known)",
    "change": "‖after − before‖ / ‖before‖ of the dense weights",
    "ratio": "packed bytes after / before"}
_PERCENT = ("sparsity", "sparsity_before", "share", "block_sparsity")


def leaf_rows(found: Inspection) -> list[dict[str, Any]]:
  """Returns a row a leaf: the fields of `LeafSummary`, and its share of the total.

  Args:
    found: an inspection.

  Returns:
    Rows in tree order; a workdir's are those of all its stages, with `stage`.
  """
  if found.what == "workdir":
    return [{"stage": s.name, **row} for s in found.stages for row in leaf_rows(s)]
  measure = "packed_bytes" if found.totals["packed_bytes"] is not None else "dense_bytes"
  whole = sum(getattr(leaf, measure) for leaf in found.leaves)
  rows = []
  for leaf in found.leaves:
    share = getattr(leaf, measure) / whole if whole else None
    rows.append({**dict.fromkeys(LEAF), **leaf_summary.to_json(leaf), "share": share})
  return rows


def stage_rows(found: Inspection) -> list[dict[str, Any]]:
  """Returns a row a stage of a workdir: sizes, then the other numbers that it measured."""
  numbers = {k: None for s in found.stages if s.stage for k in s.stage.numbers}
  return [{**numbers, "stage": s.name, "parent": s.stage.parent,
           **{k: v for k, v in s.totals.items() if k in STAGE},
           **{k: v for k, v in s.stage.numbers.items() if s.totals.get(k) is None
              or k not in STAGE}} for s in found.stages if s.stage]


def key_numbers(stage: Stage) -> list[str]:
  """Returns the few numbers that a stage in a tree is shown with."""
  keys = [k for k in stage.numbers if "accuracy" in k] + ["artifact_bytes", "seconds"]
  found = [f"{heading(k)} {number(k, stage.numbers[k])}" for k in keys if k in stage.numbers]
  return found or ["not complete"] * (stage.metrics is None)


def fields_of(rows: Sequence[Row], first: Sequence[str]) -> list[str]:
  """Returns the fields of a table: `first`, then what else there is, without empty ones.

  Example:
    >>> fields_of([{"b": 1, "a": 2, "c": None}], ["a"])
    ['a', 'b']
  """
  known = dict.fromkeys([*first, *(k for row in rows for k in row)])
  return [k for k in known if any(row.get(k) is not None for row in rows)]


def filtered(rows: Sequence[Row], pattern: str | None) -> list[Row]:
  """Returns the rows whose path the regular expression is found in.

  Raises:
    ValueError: it is no regular expression.

  Example:
    >>> filtered([{"path": "stem/kernel"}, {"path": "head/bias"}], "kernel$")
    [{'path': 'stem/kernel'}]
  """
  if pattern is None:
    return list(rows)
  try:
    found = re.compile(pattern)
  except re.error as error:
    raise ValueError(f"--layers={pattern!r}: may be a regular expression ({error})") from None
  return [row for row in rows if found.search(row["path"])]


def ordered(rows: Sequence[Row], field: str | None, known: Sequence[str]) -> list[Row]:
  """Sorts rows: numbers from the largest, texts from A; "-field" the other way round.

  Args:
    rows: of a table.
    field: what to sort by; None leaves them as they are.
    known: the fields that there are.

  Returns:
    The rows; those without a value come last.

  Raises:
    ValueError: there is no such field.

  Example:
    >>> [r["n"] for r in ordered([{"n": 1}, {"n": None}, {"n": 3}], "n", ["n"])]
    [3, 1, None]
  """
  if field is None:
    return list(rows)
  name = field.removeprefix("-")
  if name not in known:
    raise ValueError(f"--sort={field}: no such field; it may be one of {', '.join(known)}")
  valued = [row for row in rows if key(row.get(name)) is not None]
  down = bool(valued) and not isinstance(key(valued[0][name]), str)
  valued.sort(key=lambda row: key(row[name]), reverse=down != field.startswith("-"))
  return valued + [row for row in rows if key(row.get(name)) is None]


def key(value: Any) -> Any:
  """Returns what a value is ordered by: a number or a text; None has no place.

  Example:
    >>> key([3, 4]), key("a"), key(float("nan"))
    (12, 'a', None)
  """
  if isinstance(value, list | tuple):
    return math.prod(value)
  return None if isinstance(value, float) and not math.isfinite(value) else value


def text(field: str, row: Row) -> str:
  """Returns a value as people read it.

  Example:
    >>> text("sparsity", {"sparsity": 0.9}), text("shape", {"shape": [3, 3]}), text("bits", {})
    ('90.0 %', '3×3', '–')
  """
  value = row.get(field)
  if value is None or (isinstance(value, float) and not math.isfinite(value)):
    return "–"
  if field == "path":
    return value or "(the whole tree)"
  if field == "scale_max":
    low = row.get("scale_min", value)
    return f"{value:.3g}" if low == value else f"{low:.3g} … {value:.3g}"
  if field == "shape":
    return "×".join(map(str, value)) or "scalar"
  if field == "rank":
    return ", ".join(map(str, value))
  if field in _PERCENT:
    block = f" ({'×'.join(map(str, row['block']))})" if field == "block_sparsity" else ""
    return f"{100 * value:.1f} %{block}"
  return number(field, value)


def number(field: str, value: Any) -> str:
  """Returns a metric as people read it; what is no number as it is.

  Example:
    >>> number("test_accuracy", 0.9912), number("artifact_bytes", 1234.5), number("seconds", 2.0)
    ('99.12 %', '1,235', '2.0')
  """
  if isinstance(value, bool) or not isinstance(value, int | float):
    return str(value)
  if field.endswith("accuracy"):
    return f"{100 * value:.2f} %"
  if field.endswith(("_bytes", "_before")):
    return f"{math.ceil(value):,}"
  if field == "seconds":
    return f"{value:,.1f}"
  return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def heading(field: str) -> str:
  """Returns a field's name for people."""
  return HEADINGS.get(field, field.replace("_", " "))

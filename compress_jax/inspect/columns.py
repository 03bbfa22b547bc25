"""Rows of tables, for terminal, pages and JSON: values, headings, texts, order."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from compress_jax.inspect import texts
from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import Inspection
from compress_jax.io import leaf_summary
from compress_jax.io.leaf_summary import LeafSummary

Row = Mapping[str, Any]

LEAF = ("path", "kind", "shape", "dtype", "params", "nonfinite", "sparsity", "block_sparsity",
        "rank", "bits", "input_bits", "scale_max", "dense_bytes", "nonzero_bytes", "packed_bytes",
        "gzip_bytes", "share")
STAGE = ("stage", "parent", "test_accuracy", "val_accuracy", "nonfinite", "sparsity", "dense_bytes",
         "nonzero_bytes", "packed_bytes", "gzip_bytes", "artifact_bytes", "seconds")
DIFF = ("path", "kind_before", "kind", "packed_before", "packed_bytes", "ratio",
        "sparsity_before", "sparsity", "change")
TOTAL = ("total", "before", "after")

# Only where a field's own name, with spaces for underscores, would be long or wrong.
HEADINGS = {
    "kind": "what", "nonfinite": "not finite", "block_sparsity": "empty blocks",
    "input_bits": "input bits", "scale_max": "scale", "dense_bytes": "dense B",
    "nonzero_bytes": "nonzero B", "packed_bytes": "packed B", "gzip_bytes": "gzip B",
    "artifact_bytes": "file B",
    "test_accuracy": "test accuracy", "val_accuracy": "val accuracy", "kind_before": "what, before",
    "packed_before": "packed B, before", "sparsity_before": "sparsity, before",
    "ratio": "packed ratio", "nonzero_params": "non-zero",
    "nonzero": "non-zero"}
# What a heading says of itself under the pointer: units, and what is counted.
HELP = {
    "dtype": "of what is stored here: integers of a deployed quantized weight",
    "params": "numbers that the leaf is made of; a low-rank leaf's are its factors'",
    "nonfinite": "how many of these are NaN or infinite",
    "sparsity": "fraction of these that is zero",
    "block_sparsity": "fraction of blocks with nothing but zeros",
    "bits": "of a stored weight, when deployed; of factors, the fewest and the most",
    "input_bits": "of the layer's quantized input",
    "scale_max": "smallest and largest step of the grids",
    "dense_bytes": "elements × bytes of the dtype that the layer computes with",
    "nonzero_bytes": "non-zero elements × bits of their stored type; masks not counted",
    "packed_bytes": "every stored element at its bits, masks and scales included",
    "gzip_bytes": "the stored arrays, zeros in place, through gzip; masks not counted",
    "artifact_bytes": "the deployable file",
    "share": "of the total of packed bytes (of dense bytes where those are not known)",
    "change": "‖after − before‖ / ‖before‖ of the dense weights",
    "ratio": "packed bytes after / before"}
_PERCENT = ("sparsity", "block_sparsity", "sparsity_before", "share")
_ONLY_WHERE_ANY = ("nonfinite",)  # columns that are left out where all is well


def leaf_rows(found: Inspection) -> list[dict[str, Any]]:
  """Returns one row per leaf: the fields of `LeafSummary`, and its share of the total.

  Args:
    found: an inspection.

  Returns:
    Rows in tree order; a workdir's are those of all its stages, with `stage`.
  """
  if found.what != "workdir":
    return rows_of(found.leaves)
  rows = []
  for stage in found.stages:
    rows += [{"stage": stage.name} | row for row in rows_of(stage.leaves)]
  return rows


def rows_of(leaves: Sequence[LeafSummary]) -> list[dict[str, Any]]:
  """Returns one row per leaf: the fields of `LeafSummary`, and its share of the total.

  Args:
    leaves: of one tree.
  """
  sizes = [leaf.packed_bytes for leaf in leaves if leaf.packed_bytes is not None]
  if len(sizes) < len(leaves):
    # An older manifest, or a checkpoint without one, does not tell what is packed.
    sizes = [leaf.dense_bytes for leaf in leaves]
  whole = sum(sizes)
  rows = []
  for leaf, size in zip(leaves, sizes, strict=True):
    share = size / whole if whole else None
    rows.append(dict.fromkeys(LEAF) | leaf_summary.to_json(leaf) | {"share": share})
  return rows


def stage_rows(found: Inspection) -> list[dict[str, Any]]:
  """Returns one row per stage: sizes, then the other numbers that it measured.

  Args:
    found: an inspection of a workdir.

  Returns:
    Rows in the order of the stages, which all have the same fields.
  """
  stages = [(inspection, inspection.stage) for inspection in found.stages if inspection.stage]
  # Stages measure different things; each row has the fields of all, most of them empty.
  measured: dict[str, None] = {}
  for _, stage in stages:
    measured |= dict.fromkeys(stage.numbers)
  return [measured | _stage_row(inspection, stage) for inspection, stage in stages]


def _stage_row(found: Inspection, stage: Stage) -> dict[str, Any]:
  row: dict[str, Any] = {"stage": found.name, "parent": stage.parent, "nonfinite": None}
  row |= {name: value for name, value in found.totals.items() if name in STAGE}
  for name, value in stage.numbers.items():
    # What the leaves add up to is nearer to the truth than what the stage noted of them.
    if row.get(name) is None:
      row[name] = value
  return row


def total_rows(totals: Mapping[str, tuple[Any, Any]]) -> list[dict[str, str]]:
  """Returns one row per measure of two checkpoints, with texts for people.

  Args:
    totals: {measure: (before, after)}, as of a `Diff`.

  Returns:
    Rows with the fields `TOTAL`.

  Example:
    >>> total_rows({"sparsity": (None, 0.5)})
    [{'total': 'sparsity', 'before': '–', 'after': '50.0 %'}]
  """
  rows = []
  for name, (before, after) in totals.items():
    rows.append({"total": heading(name), "before": text(name, {name: before}),
                 "after": text(name, {name: after})})
  return rows


def key_numbers(stage: Stage) -> list[str]:
  """Returns the few numbers that a stage in a tree is shown with.

  Args:
    stage: complete or not.

  Returns:
    Texts, "test accuracy 91.00 %" for one.
  """
  if stage.metrics is None:
    return [f"failed: {stage.failed}" if stage.failed else "not complete"]
  accuracies = [name for name in stage.numbers if "accuracy" in name]
  names = [name for name in (*accuracies, "artifact_bytes", "seconds") if name in stage.numbers]
  return [f"{heading(name)} {texts.number(name, stage.numbers[name])}" for name in names]


def told_apart(stages: Sequence[Stage]) -> dict[str, list[str]]:
  """Returns the few numbers of each stage in a tree, after its seed where there are several.

  Args:
    stages: those in the tree.

  Returns:
    {id of a stage: texts}.
  """
  seeds = {stage.id: stage.seed for stage in stages if stage.seed is not None}
  several = len(set(map(str, seeds.values()))) > 1
  made = {}
  for stage in stages:
    seed = [f"seed {seeds[stage.id]}"] if several and stage.id in seeds else []
    made[stage.id] = seed + key_numbers(stage)
  return made


def fields_of(rows: Sequence[Row], first: Sequence[str]) -> list[str]:
  """Returns the fields of a table: `first`, then what else there is, without empty ones.

  Args:
    rows: of a table.
    first: fields in the order in which they are shown.

  Returns:
    The fields that some row has a value of.

  Example:
    >>> fields_of([{"b": 1, "a": 2, "c": None}], ["a"])
    ['a', 'b']
  """
  known = dict.fromkeys(first)  # a set that keeps its order
  for row in rows:
    known |= dict.fromkeys(row)
  return [name for name in known if any(_is_shown(name, row.get(name)) for row in rows)]


def _is_shown(field: str, value: Any) -> bool:
  return value is not None and (value != 0 or field not in _ONLY_WHERE_ANY)


def holds_numbers(field: str, rows: Sequence[Row]) -> bool:
  """Tells whether a column holds numbers, which then stand on its right.

  Args:
    field: of the rows.
    rows: of a table.

  Returns:
    True where at least one row has a number there.

  Example:
    >>> holds_numbers("bits", [{"bits": None}, {"bits": 8}]), holds_numbers("path", [{"path": "w"}])
    (True, False)
  """
  return any(isinstance(row.get(field), int | float) for row in rows)


def filtered(rows: Sequence[Row], pattern: str | None) -> list[Row]:
  """Returns the rows whose path the regular expression is found in.

  Args:
    rows: with `path`.
    pattern: the regular expression; None keeps all.

  Returns:
    Those rows, in their order.

  Raises:
    ValueError: it is no regular expression, or is found nowhere.

  Example:
    >>> filtered([{"path": "stem/kernel"}, {"path": "head/bias"}], "kernel$")
    [{'path': 'stem/kernel'}]
  """
  if pattern is None:
    return list(rows)
  try:
    found = re.compile(pattern)
  except re.error as error:
    raise ValueError(f"--layers={pattern!r}: must be a regular expression ({error})") from None
  kept = [row for row in rows if found.search(row["path"])]
  if rows and not kept:
    some = ", ".join(row["path"] for row in rows[:8])
    raise ValueError(f"--layers={pattern!r} matches no leaf; must match one of: {some}")
  return kept


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
    raise ValueError(f"--sort={field}: no such field; it must be one of {', '.join(known)}")
  valued = [row for row in rows if key(row.get(name)) is not None]
  empty = [row for row in rows if key(row.get(name)) is None]
  # Of numbers the largest are looked for, of names the first.
  falls = bool(valued) and not isinstance(key(valued[0][name]), str)
  if field.startswith("-"):
    falls = not falls
  return sorted(valued, key=lambda row: key(row[name]), reverse=falls) + empty


def key(value: Any) -> Any:
  """Returns what a value is ordered by.

  Args:
    value: a cell of a table; a shape, or ranks, count as their product.

  Returns:
    A number or a text; None, which has no place, for what is missing or not finite.

  Example:
    >>> key([3, 4]), key("a"), key(float("nan"))
    (12, 'a', None)
  """
  if isinstance(value, list | tuple):
    return math.prod(value)
  return None if _is_no_number(value) else value


def _is_no_number(value: Any) -> bool:
  return isinstance(value, float) and not math.isfinite(value)


def text(field: str, row: Row) -> str:
  """Returns a value as people read it.

  Args:
    field: which one; also that of a metric, which may be called like a field of a leaf.
    row: of a table; some fields are shown with another one's value.

  Returns:
    A short text of one line; "–" where there is no value, "nan" or "inf" where it is not a number.

  Example:
    >>> text("sparsity", {"sparsity": 0.9}), text("shape", {"shape": [3, 3]}), text("bits", {})
    ('90.0 %', '3×3', '–')
  """
  value = row.get(field)
  if value is None:
    return "–"
  if _is_no_number(value):
    return str(value)
  if field == "path" and value == "":
    return "(the whole tree)"
  if isinstance(value, list | tuple):
    return _several(field, value)
  if field == "scale_max":
    return _range_text(row.get("scale_min", value), value)
  if field == "bits" and row.get("factor_bits"):
    return _range_text(min(row["factor_bits"]), max(row["factor_bits"]))
  if field in _PERCENT:
    block = row.get("block") if field == "block_sparsity" else None
    return f"{texts.percent(value)} ({_times(block)})" if block else texts.percent(value)
  return texts.number(field, value)


def _several(field: str, values: Sequence[Any]) -> str:
  if field == "shape":
    return _times(values) or "scalar"
  return texts.printable(", ".join(map(str, values)))


def _range_text(low: float, high: float) -> str:
  if low == high:
    return f"{high:.3g}"
  return f"{low:.3g} … {high:.3g}"


def _times(sizes: Sequence[int]) -> str:
  return "×".join(map(str, sizes))


def heading(field: str) -> str:
  """Returns a field's name for people.

  Args:
    field: as rows have it.

  Returns:
    Its heading in tables.

  Example:
    >>> heading("nonzero_bytes"), heading("val_loss")
    ('nonzero B', 'val loss')
  """
  return HEADINGS.get(field, texts.printable(field.replace("_", " ")))

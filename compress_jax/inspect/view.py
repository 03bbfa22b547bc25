"""The pages of an inspection: what the templates show."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress_jax.inspect import charts, columns, orbax, page, pictures, texts
from compress_jax.inspect.diff import Diff
from compress_jax.inspect.lineage import Stage, nested
from compress_jax.inspect.reader import Inspection
from compress_jax.io import containers
from compress_jax.io.leaf_summary import too_large

_KINDS = {"stage": "Stage", "checkpoint": "Checkpoint", "artifact": "Deployable file",
          "orbax": "Orbax checkpoint without a manifest"}
# A mask is drawn as large as fits into these pixels, at whole pixels per weight.
_MASK_WIDTH, _MASK_HEIGHT, _MASK_ZOOM = 300, 160, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mask:
  """A picture of what is kept.

  Attributes:
    source: the address that holds it.
    width: in pixels of the page.
    height: likewise.
    text: what it shows.
  """

  source: str
  width: int
  height: int
  text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
  """What the weights of one leaf look like.

  Attributes:
    path: of the leaf.
    kind: what it is.
    shape: as people read it.
    histogram: SVG, or None where there is nothing to draw.
    text: fractions of exact zeros, before and after; or why nothing is drawn.
    nonfinite: how many are NaN or infinite, "" where none are.
    masks: pictures of what is kept.
  """

  path: str
  kind: str
  shape: str
  histogram: str | None
  text: str
  nonfinite: str
  masks: tuple[Mask, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
  """What the weights of a tree look like.

  Attributes:
    before: the name of what they are compared with, or None.
    matrices: one card per leaf of two or more axes.
    vectors: one card per other leaf.
  """

  before: str | None
  matrices: tuple[Card, ...]
  vectors: tuple[Card, ...]


def checkpoint_page(found: Inspection, leaves: Sequence[columns.Row], params: Any, *,
                    before: tuple[str, Any] | None = None, diff: Diff | None = None,
                    link: Callable[[Stage], str | None] | None = None,
                    back: tuple[str, str] | None = None) -> str:
  """Returns the page of a stage, checkpoint or artifact.

  Args:
    found: the inspection, measured.
    leaves: rows to show.
    params: the tree; None shows no weights.
    before: the name and the tree of what the weights are compared with.
    diff: shown where there is one.
    link: gives the address of a stage's page, or None; None links no stage.
    back: address and name of the page that led here, or None.

  Returns:
    HTML.

  Raises:
    ImportError: Jinja2, pygal or Pillow is not installed.
  """
  stages = found.lineage
  here = found.stage.id if found.stage else None
  # A page does not lead to itself.
  links: dict[str, str | None] = {stage.id: None for stage in stages}
  if link is not None:
    links |= {stage.id: link(stage) for stage in stages if stage.id != here}
  return page.render(
      "checkpoint.html.j2", title=f"{found.name} – inspection", name=found.name,
      sentence=_sentence(found), problems=_problems(found), totals=_facts(found),
      lineage=nested(stages), numbers=key_numbers(stages), links=links, here=here, back=back,
      diff=_diff(diff) if diff else None,
      leaves=_leaf_table(leaves) if leaves else None,
      weights=_weights(leaves, params, before) if params is not None else None)


def workdir_page(found: Inspection, stages: Sequence[columns.Row],
                 leaves: Sequence[columns.Row]) -> str:
  """Returns the page of a workdir: its stages, their tree, and the leaves of each.

  Args:
    found: the inspection.
    stages: rows to show.
    leaves: rows to show, with `stage`.

  Returns:
    HTML, made of metadata only.

  Raises:
    ImportError: Jinja2 is not installed.
  """
  tables = []
  for inspection in found.stages:
    rows = [row for row in leaves if row["stage"] == inspection.name]
    if rows:
      tables.append((f"{inspection.name}: {len(rows)} leaves", _leaf_table(rows)))
  known = [inspection.stage for inspection in found.stages if inspection.stage]
  fields = columns.fields_of(stages, columns.STAGE)
  return page.render(
      "workdir.html.j2", title=f"{found.name} – inspection", name=found.name, path=found.path,
      count=len(found.stages), problems=_problems(found),
      stages=page.table("stages", stages, fields), lineage=nested(known),
      numbers=columns.told_apart(known), tables=tables)


def _sentence(found: Inspection) -> str:
  beside = orbax.said(found.metadata) if found.what == "orbax" else ""
  return f"{_KINDS[found.what]} of {len(found.leaves)} leaves, {found.path}{beside}"


def _problems(found: Inspection) -> dict[str, Sequence[str]]:
  """Returns what is wrong, or was not looked at, by headings."""
  every = {"Damaged": found.failures, "Not read": found.unread, "Not measured": found.unmeasured}
  return {heading: lines for heading, lines in every.items() if lines}


def key_numbers(stages: Sequence[Stage]) -> dict[str, list[str]]:
  """Returns the few numbers that each stage in a tree is shown with.

  Args:
    stages: those in the tree.

  Returns:
    {id of a stage: texts}.
  """
  return {stage.id: columns.key_numbers(stage) for stage in stages}


def _facts(found: Inspection) -> dict[str, str]:
  totals = found.totals
  return {columns.heading(name): columns.text(name, totals)
          for name, value in totals.items() if value is not None}


def _leaf_table(rows: Sequence[columns.Row]) -> page.Table:
  shown = [f for f in columns.fields_of(rows, columns.LEAF) if f in columns.LEAF]
  return page.table("leaves", rows, shown)


def _diff(diff: Diff) -> dict[str, Any]:
  totals = page.table("totals", columns.total_rows(diff.totals), columns.TOTAL, small=True)
  fields = columns.fields_of(diff.rows, columns.DIFF)
  return {"before": diff.before, "after": diff.after, "totals": totals,
          "leaves": page.table("differences", diff.rows, fields)}


def _weights(leaves: Sequence[columns.Row], params: Any,
             before: tuple[str, Any] | None) -> Weights:
  name, old = before if before is not None else (None, {})
  after = dict(containers.measurable(params))
  earlier = dict(containers.measurable(old))
  # Vectors are many and tell little: they are folded away.
  matrices, vectors = [], []
  for row in leaves:
    path = row["path"]
    if path not in after:
      continue
    card = _card(row, after[path], earlier.get(path))
    if len(row["shape"]) > 1:
      matrices.append(card)
    else:
      vectors.append(card)
  return Weights(before=name, matrices=tuple(matrices), vectors=tuple(vectors))


def _card(row: columns.Row, x: Any, before: Any) -> Card:
  path = columns.text("path", row)
  counted = pictures.histogram(before, x)
  drawn, text = None, _why_empty(row, x)
  if counted is not None:
    label = f"histogram of {path}, from {counted.low:.3g} to {counted.high:.3g}"
    drawn = charts.histogram(counted, label)
    shares = [texts.percent(share) for share in counted.zeros if share is not None]
    text = f"zeros {' → '.join(shares)}"
  masks = [_mask(name, kept) for name, kept in pictures.masks_of(x).items()]
  return Card(path=path, kind=row["kind"], shape=columns.text("shape", row), histogram=drawn,
              text=text, nonfinite=_nonfinite(row), masks=tuple(masks))


def _nonfinite(row: columns.Row) -> str:
  count = row.get("nonfinite")
  return f"{count:,} of {row['params']:,} are NaN or infinite" if count else ""


def _why_empty(row: columns.Row, x: Any) -> str:
  """Returns why there is no histogram of a leaf."""
  if too_large(x):
    return "too large to be drawn"
  if row.get("nonzero") is None:
    return "not measured"
  if not row["params"]:
    return "no elements"
  if row["nonzero"] == 0:
    return "all zeros"
  return "no finite numbers but zeros" if row["sparsity"] else "no finite numbers"


def _mask(name: str, kept: np.ndarray) -> Mask:
  pixels = pictures.shrunk(kept)
  height, width = pixels.shape
  zoom = max(1, min(_MASK_ZOOM, _MASK_WIDTH // width, _MASK_HEIGHT // height))
  return Mask(source=pictures.data_uri(pixels), width=width * zoom, height=height * zoom,
              text=f"{name}, {texts.percent(float(kept.mean()))} kept")

"""The page of an inspection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from compress_jax import tree
from compress_jax.inspect import columns, page, pictures, svg
from compress_jax.inspect.diff import Diff
from compress_jax.inspect.lineage import Stage
from compress_jax.inspect.reader import Inspection

escape = page.escape
Links = dict[str, dict[str, str]]


def checkpoint_page(found: Inspection, leaves: Sequence[columns.Row], params: Any, *,
                    before: tuple[str, Any] | None = None, diff: Diff | None = None,
                    link: Callable[[Stage], str | None] = lambda stage: None) -> str:
  """Returns the page of a stage, checkpoint or artifact.

  Args:
    found: the inspection, measured.
    leaves: rows to show.
    params: the tree; None shows no weights.
    before: the name and the tree of what the weights are compared with.
    diff: shown where there is one.
    link: the address of a stage's page, or None.

  Returns:
    A document.
  """
  return page.document(
      f"{found.name} – inspection",
      f"<h1>{escape(found.name)}</h1>",
      f'<p class="soft">{escape(_sentence(found))}</p>',
      page.failures(found.failures),
      page.facts({columns.heading(k): columns.text(k, found.totals)
                  for k, v in found.totals.items() if v is not None}),
      _lineage(found, link),
      _diff(diff) if diff else "",
      "<h2>Leaves</h2>" + _leaves(leaves) if leaves else "",
      _weights(leaves, params, before) if params is not None else "")


def workdir_page(found: Inspection, stages: Sequence[columns.Row],
                 leaves: Sequence[columns.Row]) -> str:
  """Returns the page of a workdir: its stages, their tree, and the leaves of each.

  Args:
    found: the inspection.
    stages: rows to show.
    leaves: rows to show, with `stage`.

  Returns:
    A document, made of metadata only.
  """
  tables = []
  for stage in found.stages:
    rows = [r for r in leaves if r["stage"] == stage.name]
    if rows:
      tables.append(page.folded(f"{stage.name}: {len(rows)} leaves", _leaves(rows)))
  return page.document(
      f"{found.name} – inspection", f"<h1>{escape(found.name)}</h1>",
      f'<p class="soft">{len(found.stages)} stages in {escape(str(found.path))}. Inspect one of '
      "them for its weights and masks.</p>", page.failures(found.failures),
      "<h2>Stages</h2>", page.table("stages", stages, columns.fields_of(stages, columns.STAGE)),
      "<h2>Lineage</h2>", page.tree([s.stage for s in found.stages if s.stage], about_stage),
      "<h2>Leaves</h2>", *tables)


def about_stage(stage: Stage, address: str | None = None, here: bool = False) -> str:
  """Returns a stage in a tree: its name, its numbers, and its specification behind a click."""
  name = f'<a href="{escape(address)}">{escape(stage.name)}</a>' if address else (
      f'<span class="{"here" if here else "stage"}">{escape(stage.name)}</span>')
  shown = ", ".join(columns.key_numbers(stage))
  folded = page.folded("specification and metrics", page.as_json(
      {"spec": stage.spec, "metrics": stage.metrics, "data": stage.data,
       "version": stage.version, "directory": stage.id}))
  return f'{name} <span class="soft">{escape(shown)}</span> {folded}'


def _sentence(found: Inspection) -> str:
  kind = {"stage": "Stage", "checkpoint": "Checkpoint", "artifact": "Deployable file",
          "orbax": "Orbax checkpoint without a manifest"}[found.what]
  return f"{kind} of {len(found.leaves)} leaves, {found.path}"


def _leaves(rows: Sequence[columns.Row]) -> str:
  shown = [f for f in columns.fields_of(rows, columns.LEAF) if f in columns.LEAF]
  return page.table("leaves", rows, shown)


def _lineage(found: Inspection, link: Callable[[Stage], str | None]) -> str:
  if not found.lineage:
    return ""
  about = lambda s: about_stage(s, None if s is found.stage else link(s), s is found.stage)
  return "<h2>Lineage</h2>" + page.tree(found.lineage, about)


def _diff(diff: Diff) -> str:
  rows = [{"total": columns.heading(k), "before": columns.text(k, {k: a}),
           "after": columns.text(k, {k: b})} for k, (a, b) in diff.totals.items()]
  return (f"<h2>{escape(diff.before)} → {escape(diff.after)}</h2>"
          + page.table("totals", rows, ("total", "before", "after"), small=True) + "<p></p>"
          + page.table("differences", diff.rows, columns.fields_of(diff.rows, columns.DIFF)))


def _weights(leaves: Sequence[columns.Row], params: Any, before: tuple[str, Any] | None) -> str:
  """Returns a card a leaf: histograms and masks."""
  name, old = before or (None, {})
  after, earlier = (dict(tree.entries(t)[0]) for t in (params, old))
  cards = {True: "", False: ""}  # of matrices and kernels; of vectors
  for row in leaves:
    if row["path"] in after:
      cards[len(row["shape"]) > 1] += _card(row, after[row["path"]], earlier.get(row["path"]))
  vectors = page.folded("vectors and scalars", f'<div class="cards">{cards[False]}</div>',
                        is_open=not cards[True]) if cards[False] else ""
  key = '<span class="key" style="--key: var(--after)">these weights</span>'
  if name:
    key = f'<span class="key" style="--key: var(--before)">{escape(name)}</span> &ensp; {key}'
  return (f'<h2>Weights</h2><p class="soft">{key} &ensp; Exact zeros are left out of the '
          'histograms. In masks, white is kept, black is pruned; rows are inputs and columns '
          f'outputs, or the other way round where that is wider.</p><div class="cards">'
          f"{cards[True]}</div>{vectors}")


def _card(row: columns.Row, x: Any, before: Any) -> str:
  x = x if hasattr(x, "shape") else np.asarray(x)
  path = columns.text("path", row)
  return (f'<section class="card"><h3>{escape(path)}</h3><p class="soft">{escape(row["kind"])}, '
          f'{escape(columns.text("shape", row))}</p>{_histogram(path, x, before)}'
          f'{_masks(path, x)}</section>')


def _histogram(path: str, x: Any, before: Any) -> str:
  made = pictures.histogram(before, x)
  if made is None:
    return '<p class="soft">all zeros</p>'
  zeros = " → ".join(f"{100 * z:.1f} %" for z in made.zeros if z is not None)
  drawn = svg.histogram(made, f"histogram of {path}, from {made.low:.3g} to {made.high:.3g}")
  return f"<figure>{drawn}<figcaption>zeros {zeros}</figcaption></figure>"


def _masks(path: str, x: Any) -> str:
  out = []
  for name, kept in pictures.masks_of(x).items():
    pixels = pictures.shrunk(kept)
    height, width = pixels.shape
    zoom = max(1, min(8, 300 // width, 160 // height))
    text = f"{name}, {100 * kept.mean():.1f} % kept"
    out.append(f'<figure><img class="mask" src="{pictures.data_uri(pixels)}" width="{width * zoom}"'
               f' height="{height * zoom}" alt="{escape(f"{path}, {text}")}">'
               f"<figcaption>{escape(text)}</figcaption></figure>")
  return "".join(out)

"""Pieces of a self-contained HTML page: its frame, sortable tables, facts, trees."""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from compress_jax.inspect import columns
from compress_jax.inspect.lineage import Stage, depth_first

escape = html.escape
# The browser itself is told to fetch nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@functools.cache
def asset(name: str) -> str:
  """Returns a file that lies beside this one."""
  return resources.files(__package__).joinpath(name).read_text("utf-8")


def document(title: str, *body: str) -> str:
  """Returns a page that needs no other file.

  Args:
    title: of the window.
    *body: HTML.

  Example:
    >>> document("a & b", "<h1>a</h1>").startswith("<!doctype html>")
    True
  """
  return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
          f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
          '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
          f"<title>{escape(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>\n"
          + "\n".join(part for part in body if part)
          + f"\n<script>\n{asset('page.js')}</script>\n</body>\n</html>\n")


def table(name: str, rows: Sequence[columns.Row], fields: Sequence[str], *,
          link: Callable[[str, columns.Row], str | None] = lambda field, row: None,
          small: bool = False) -> str:
  """Returns a table that a click on a heading sorts.

  Args:
    name: of the table, for those who hear the page.
    rows: {field: value}.
    fields: the columns; the first one names the row.
    link: the address that a field of a row leads to, or None.
    small: whether it is only as wide as it must be.

  Returns:
    HTML.

  Example:
    >>> '<th scope="row" data-value="&quot;w&quot;">w</th>' in table("t", [{"path": "w"}], ["path"])
    True
  """
  right = {f for f in fields if any(isinstance(row.get(f), int | float) for row in rows)}
  head = "".join(_heading(f, f in right) for f in fields)
  lines = []
  for row in rows:
    cells = []
    for field in fields:
      tag, scope = ("th", ' scope="row"') if field == fields[0] else ("td", "")
      value = escape(json.dumps(columns.key(row.get(field))))
      css = ' class="n"' if field in right else ""
      shown, address = escape(columns.text(field, row)), link(field, row)
      shown = f'<a href="{escape(address)}">{shown}</a>' if address else shown
      cells.append(f'<{tag}{scope}{css} data-value="{value}">{shown}</{tag}>')
    lines.append(f"<tr>{''.join(cells)}</tr>")
  # Reached by keyboard, because it may scroll.
  return (f'<div class="wide{" small" * small}" tabindex="0" role="region" '
          f'aria-label="{escape(name)}"><table class="sortable">\n'
          f"<thead><tr>{head}</tr></thead>\n<tbody>\n"
          + "\n".join(lines) + "\n</tbody></table></div>")


def _heading(field: str, right: bool) -> str:
  css = ' class="n"' if right else ""
  hint = f' title="{escape(columns.HELP[field])}"' if field in columns.HELP else ""
  return (f'<th scope="col"{css} data-field="{escape(field)}" aria-sort="none">'
          f'<button type="button"{hint}>{escape(columns.heading(field))}</button></th>')


def facts(pairs: Mapping[str, str]) -> str:
  """Returns a row of named numbers.

  Example:
    >>> facts({"bits": "8"})
    '<dl class="facts"><div><dt>bits</dt><dd>8</dd></div></dl>'
  """
  inner = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in pairs.items())
  return f'<dl class="facts">{inner}</dl>'


def tree(stages: Iterable[Stage], about: Callable[[Stage], str]) -> str:
  """Returns stages as a tree of nested lists.

  Args:
    stages: any; a stage whose parent is not among them is a root.
    about: the HTML that stands for a stage.

  Example:
    >>> from pathlib import Path
    >>> made = [Stage(directory=Path(n), name=n, parent=p) for n, p in (("a", None), ("b", "a"))]
    >>> tree(made, lambda stage: stage.name)
    '<ul class="tree"><li>a<ul><li>b</li></ul></li></ul>'
  """
  out, depth = ['<ul class="tree">'], -1
  for new, stage in depth_first(stages):
    if new > depth:
      out.append("<ul>" * (depth >= 0))
    else:
      out.append("</li>" + "</ul></li>" * (depth - new))
    out.append(f"<li>{about(stage)}")
    depth = new
  return "".join(out) + "</li>" * (depth >= 0) + "</ul></li>" * max(depth, 0) + "</ul>"


def folded(title: str, inner: str, is_open: bool = False) -> str:
  """Returns HTML behind a title that opens it."""
  return f"<details{' open' * is_open}><summary>{escape(title)}</summary>{inner}</details>"


def as_json(value: Any) -> str:
  """Returns a value as indented JSON."""
  return f"<pre>{escape(json.dumps(value, indent=1, sort_keys=True, default=str))}</pre>"


def failures(found: Sequence[str]) -> str:
  """Returns what is damaged, or nothing."""
  lines = "".join(f"<li>{escape(line)}</li>" for line in found)
  return f'<div class="wrong" role="alert"><strong>Damaged</strong><ul>{lines}</ul></div>' * bool(
      found)

"""From values to a self-contained HTML page: templates, and what tables in them show."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from compress_jax.extras import need
from compress_jax.inspect import columns

_START = b"<!doctype html>"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """One cell of a table.

  Attributes:
    order: what the cell is sorted by, as JSON.
    text: what is shown.
    link: the address that it leads to, or None.
  """

  order: str
  text: str
  link: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
  """One column of a table.

  Attributes:
    field: its name, that `#sort=` takes.
    heading: its name for people.
    help: what it says of itself under the pointer, or None.
    numbers: whether it holds numbers, which stand on the right.
  """

  field: str
  heading: str
  help: str | None
  numbers: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A table that a click on a heading sorts.

  Attributes:
    name: for screen readers.
    columns: the first one names the row.
    rows: one cell per column.
    small: whether it is only as wide as it must be.
  """

  name: str
  columns: tuple[Column, ...]
  rows: tuple[tuple[Cell, ...], ...]
  small: bool = False


def table(name: str, rows: Sequence[columns.Row], fields: Sequence[str], *,
          link: Callable[[str, columns.Row], str | None] | None = None,
          small: bool = False) -> Table:
  """Returns what a table of a page shows.

  Args:
    name: of the table, for screen readers.
    rows: {field: value}.
    fields: the columns; the first one names the row.
    link: the address that a field of a row leads to, or None.
    small: whether it is only as wide as it must be.

  Returns:
    The table, for the macro `table` of `parts.html.j2`.

  Example:
    >>> made = table("leaves", [{"path": "w", "sparsity": 0.5}], ["path", "sparsity"])
    >>> [cell.text for cell in made.rows[0]], made.columns[1].numbers
    (['w', '50.0 %'], True)
  """
  return Table(name=name, columns=tuple(_column(field, rows) for field in fields),
               rows=tuple(_cells(row, fields, link) for row in rows), small=small)


def _column(field: str, rows: Sequence[columns.Row]) -> Column:
  return Column(field=field, heading=columns.heading(field), help=columns.HELP.get(field),
                numbers=columns.holds_numbers(field, rows))


def _cells(row: columns.Row, fields: Sequence[str],
           link: Callable[[str, columns.Row], str | None] | None) -> tuple[Cell, ...]:
  cells = []
  for field in fields:
    # JSON keeps numbers apart from texts, which the page's script sorts the other way round.
    order = json.dumps(columns.key(row.get(field)))
    address = link(field, row) if link is not None else None
    cells.append(Cell(order=order, text=columns.text(field, row), link=address))
  return tuple(cells)


@functools.cache
def environment(folder: Path | None = None) -> Any:
  """Returns what makes pages from templates.

  Args:
    folder: of more templates, which may extend and import the ones here; or None.

  Returns:
    A `jinja2.Environment` that escapes all that it is given.

  Raises:
    ImportError: Jinja2 is not installed.
  """
  # Only here, so that the terminal's output needs no more than the library does.
  jinja2 = need("jinja2", "html")
  loaders = [jinja2.PackageLoader(__package__)]
  if folder is not None:
    loaders.append(jinja2.FileSystemLoader(folder))
  # By the name's end Jinja2 would escape only *.html, and ours end in .j2.
  made = jinja2.Environment(loader=jinja2.ChoiceLoader(loaders), autoescape=True,
                            undefined=jinja2.StrictUndefined, trim_blocks=True,
                            lstrip_blocks=True, keep_trailing_newline=True)
  made.filters["indented"] = _indented
  return made


def _indented(value: Any) -> str:
  """Returns a value as JSON that people read."""
  return json.dumps(value, indent=1, sort_keys=True, default=str)


def is_page(file: Path) -> bool:
  """Returns whether a file is empty or a page: nothing else may be replaced by one.

  Args:
    file: any path; False of what is no file.

  Raises:
    OSError: it cannot be read.
  """
  if not file.is_file():
    return False
  with file.open("rb") as opened:
    start = opened.read(len(_START))
  return start.lower() in (b"", _START)


def render(template: str, folder: Path | None = None, **values: Any) -> str:
  """Returns a page that needs no other file.

  Args:
    template: the name of a file in `templates/` or in the folder.
    folder: of more templates, or None.
    **values: what the template is about.

  Returns:
    HTML.

  Raises:
    ImportError: Jinja2 is not installed.

  Example:
    >>> made = render("base.html.j2", title="a & b")
    >>> made.startswith("<!doctype html>"), "<title>a &amp; b</title>" in made
    (True, True)
  """
  return environment(folder).get_template(template).render(**values)

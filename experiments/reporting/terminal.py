"""A study's tables in a terminal: the Markdown of its files, laid out for the width there is."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.reporting import blocks

_WIDTH = 120  # of a file or a pipe; 80 columns would break many tables' lines


def show(markdown: str, console: Console | None = None) -> None:
  """Prints Markdown that has headings, paragraphs and tables.

  Args:
    markdown: of a study.
    console: where; None is standard output.
  """
  console = console or Console(width=None if sys.stdout.isatty() else _WIDTH)
  for block in blocks.parse(markdown):
    if isinstance(block, blocks.Table):
      print_table("", block.heading, block.rows, console=console)
    else:
      console.print(Text(block.text, style="bold" if block.heading else ""))
    console.print()


def print_table(title: str, heading: Sequence[str], rows: Sequence[Sequence[str]], *,
                console: Console | None = None) -> None:
  """Prints a table, with numbers on the right of their columns.

  Args:
    title: above it, or "".
    heading: of the columns.
    rows: the cells of each row.
    console: where; None is standard output.
  """
  console = console or Console(width=None if sys.stdout.isatty() else _WIDTH)
  for part, lines in _parts(*_fitting(heading, rows, console.width), console.width):
    console.print(_table(title, blocks.Table(heading=part, rows=lines), console.width))


def _table(title: str, shown: blocks.Table, width: int) -> Table:
  """Returns a table whose columns' widths are set: rich would break numbers, to be fair to all."""
  table = Table(title=title or None, box=None, pad_edge=False, header_style="bold",
                title_justify="left")
  for i, (column, wide) in enumerate(zip(shown.heading, _widths(shown, width), strict=True)):
    # Headings may have several lines; a number or a name that is broken cannot be read.
    table.add_column(column, justify="right" if shown.holds_numbers(i) else "left",
                     vertical="top", width=wide)
  for row in shown.rows:
    table.add_row(*map(Text, row))
  return table


def _widths(shown: blocks.Table, width: int) -> list[int]:
  """Returns the width of each column: what it must have, and of what is left what it can use."""
  columns = list(zip(shown.heading, *shown.rows, strict=True))
  least = [_narrowest(first, cells, shown.holds_numbers(i) or not i)
           for i, (first, *cells) in enumerate(columns)]
  spare = max(0, width - sum(least) - 2 * len(least))
  widths = []
  for must, column in zip(least, columns, strict=True):
    more = min(spare, max(map(len, column)) - must)
    spare -= more
    widths.append(must + more)
  return widths


def _fitting(heading: Sequence[str], rows: Sequence[Sequence[str]],
             width: int) -> tuple[list[str], list[list[str]]]:
  """Returns a table without its last differences, as many as leave no room for the rest."""
  heading, rows = list(heading), [list(row) for row in rows]
  while _width(heading, rows) > width and "difference" in heading:
    # What can be computed from the two columns before it goes first.
    last = len(heading) - 1 - heading[::-1].index("difference")
    for line in (heading, *rows):
      del line[last]
  return heading, rows


def _parts(heading: Sequence[str], rows: Sequence[Sequence[str]],
           width: int) -> Iterator[tuple[list[str], list[list[str]]]]:
  """Yields tables one below the other that have all columns, each with the first."""
  names, *columns = list(zip(heading, *rows, strict=True))
  taken = [names]
  for group in _groups(columns):
    if len(taken) > 1 and _width(*_rows([*taken, *group])) > width:
      yield _rows(taken)
      taken = [names]
    taken += group
  yield _rows(taken)


def _groups(columns: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
  """Returns columns of ours, each with the paper's and the difference behind it."""
  groups: list[list[Sequence[str]]] = []
  for column in columns:
    if groups and column[0] in ("paper", "difference"):
      groups[-1].append(column)
    else:
      groups.append([column])
  return groups


def _rows(columns: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
  heading, *rows = [list(line) for line in zip(*columns, strict=True)]
  return heading, rows


def _width(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
  shown = blocks.Table(heading=heading, rows=rows)
  columns = enumerate(zip(heading, *rows, strict=True))
  # Two for rich's padding, at the edges too, where it counts it and does not show it.
  return sum(_narrowest(first, cells, shown.holds_numbers(i) or not i) + 2
             for i, (first, *cells) in columns)


def _narrowest(heading: str, cells: Sequence[str], whole: bool) -> int:
  """Returns the columns that a column needs: its longest word, or cell where these stay whole."""
  parts = heading.split()
  for cell in cells:
    parts += [cell] if whole else cell.split()
  return max(map(len, parts), default=1)

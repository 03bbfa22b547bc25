"""Tables of our figures beside a paper's, with the difference."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
  """One quantity, ours and the paper's.

  Attributes:
    title: with its unit.
    ours: key in our rows.
    paper: key in the paper's rows, or None where it gives nothing.
    form: of the numbers, as `format` takes it.
    scale: what ours is multiplied by, to have the title's unit.
    spread: key of our standard deviation over seeds, if any.
    difference: whether to show ours less the paper's.
  """

  title: str
  ours: str
  paper: str | None
  form: str = ".2f"
  scale: float = 1.0
  spread: str | None = None
  difference: bool = True

  @property
  def titles(self) -> list[str]:
    """The headings of its columns in a table."""
    if self.paper is None:
      return [self.title]
    if not self.difference:
      return [self.title, "paper"]
    return [self.title, "paper", "difference"]

  def texts(self, ours: Row, paper: Row) -> list[str]:
    """Returns its cells in a row.

    Args:
      ours: our row.
      paper: the paper's row, {} where there is none.

    Returns:
      As many texts as `titles` has.
    """
    value = ours.get(self.ours)
    if value is not None:
      value = self.scale * value
    cells = [number(value, self.form) + self._around(ours)]
    # A value that is missing on either side leaves its cell a dash, not the row out.
    if self.paper is None:
      return cells
    theirs = paper.get(self.paper)
    cells.append(number(theirs, self.form))
    if self.difference:
      known = value is not None and theirs is not None
      cells.append(number(value - theirs if known else None, "+" + self.form))
    return cells

  def _around(self, ours: Row) -> str:
    """Returns the standard deviation over seeds, "" where there is none."""
    spread = ours.get(self.spread) if self.spread else None
    return "" if spread is None else f" ± {self.scale * spread:.2f}"


ACCURACY = Column("test accuracy, %", "test_accuracy", "accuracy", scale=100.0, spread="spread")
VALIDATION = Column("validation accuracy, %", "val_accuracy", "accuracy", scale=100.0,
                    spread="val_spread")


def number(value: float | None, form: str) -> str:
  """Returns a number as `format` writes it, and a dash for None.

  Args:
    value: the number, or None.
    form: as `format` takes it.

  Example:
    >>> number(1234.5, ",.1f"), number(None, ".2f")
    ('1,234.5', '–')
  """
  return "–" if value is None else format(value, form)


def paper(study: str) -> dict[str, Any]:
  """Returns the numbers of a study's paper, from `experiments/studies/<study>/paper.json`.

  Args:
    study: the name of its folder.
  """
  # Beside the study's code, so that a study is one folder.
  return json.loads((Path(__file__).parents[1] / "studies" / study / "paper.json").read_text())


def markdown(pairs: Iterable[tuple[str, Row, Row]], columns: Sequence[Column], *,
             first: str = "model", same_data: bool = True) -> str:
  """Returns a table in Markdown.

  Args:
    pairs: (name, our row, the paper's row, {} where there is none).
    columns: what to show, each with the paper's beside it.
    first: heading of the names.
    same_data: whether ours are of the paper's data; the difference to other data says nothing,
      and is not shown.

  Returns:
    Lines, each with its end.

  Example:
    >>> print(markdown([("base", {"test_accuracy": 0.9}, {"accuracy": 92.8})],
    ...                [Column("%", "test_accuracy", "accuracy", ".1f", 100.0)]), end="")
    | model | % | paper | difference |
    |---|---|---|---|
    | base | 90.0 | 92.8 | -2.8 |
  """
  if not same_data:
    columns = [dataclasses.replace(column, difference=False) for column in columns]
  heading = [first]
  for column in columns:
    heading += column.titles
  table = [heading]
  for name, ours, theirs in pairs:
    cells = [name]
    for column in columns:
      cells += column.texts(ours, theirs)
    table.append(cells)
  return lines(table)


def lines(table: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown.

  Args:
    table: the cells of each row; the first row is the heading.

  Returns:
    Lines, each with its end.

  Example:
    >>> print(lines([["model", "bits"], ["base", "32"]]), end="")
    | model | bits |
    |---|---|
    | base | 32 |
  """
  heading, *rows = table
  return "\n".join([head(heading), *map(line, rows)]) + "\n"


def head(cells: Sequence[str]) -> str:
  """Returns the two lines of a table's heading, for tables that are printed row by row.

  Args:
    cells: the headings.
  """
  return line(cells) + "\n|" + "---|" * len(cells)


def line(cells: Sequence[str]) -> str:
  """Returns one line of a table.

  Args:
    cells: the texts of the row.
  """
  return "| " + " | ".join(cells) + " |"

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
    paper: key in the paper's, or None where it gives nothing.
    form: of the number, as `format` takes it.
    scale: what ours is multiplied by.
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
    return [self.title, *["paper"] * (self.paper is not None),
            *["difference"] * (self.paper is not None and self.difference)]

  def texts(self, ours: Row, paper: Row) -> list[str]:
    """Returns its cells in a row."""
    value = None if ours.get(self.ours) is None else self.scale * ours[self.ours]
    spread = ours.get(self.spread) if self.spread else None
    around = "" if spread is None else f" ± {self.scale * spread:.2f}"
    out = [_text(value, self.form) + around]
    if self.paper is not None:
      theirs = paper.get(self.paper)
      out.append(_text(theirs, self.form))
      if self.difference:
        known = value is not None and theirs is not None
        out.append(_text(value - theirs if known else None, "+" + self.form))
    return out


ACCURACY = Column("test accuracy, %", "test_accuracy", "accuracy", scale=100.0, spread="spread")


def _text(value: float | None, form: str) -> str:
  return "–" if value is None else format(value, form)


def paper(study: str) -> dict[str, Any]:
  """Returns a paper's tables, from `experiments/studies/<study>/paper.json`."""
  return json.loads((Path(__file__).parents[1] / "studies" / study / "paper.json").read_text())


def markdown(pairs: Iterable[tuple[str, Row, Row]], columns: Sequence[Column], *,
             first: str = "model") -> str:
  """Returns a table in Markdown.

  Args:
    pairs: (name, our row, the paper's row, {} where there is none).
    columns: what to show.
    first: heading of the names.

  Returns:
    Lines, each with its end.

  Example:
    >>> print(markdown([("base", {"test_accuracy": 0.9}, {"accuracy": 92.8})],
    ...                [Column("%", "test_accuracy", "accuracy", ".1f", 100.0)]), end="")
    | model | % | paper | difference |
    |---|---|---|---|
    | base | 90.0 | 92.8 | -2.8 |
  """
  heads = [first, *(title for c in columns for title in c.titles)]
  return lines([heads] + [[name, *(text for c in columns for text in c.texts(ours, theirs))]
                          for name, ours, theirs in pairs])


def lines(table: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown; its first row is the heading."""
  rows = ["| " + " | ".join(row) + " |" for row in table]
  return "\n".join([rows[0], "|" + "---|" * len(table[0]), *rows[1:]]) + "\n"

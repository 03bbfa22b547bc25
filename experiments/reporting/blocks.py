"""The Markdown of a study's tables, taken apart: headings, paragraphs and tables."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence

_NUMBER = re.compile(r"[-+−–]?[\d.,]*( ?[%±].*)?( kB)?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A table.

  Attributes:
    heading: of the columns.
    rows: the cells of each row.
  """

  heading: Sequence[str]
  rows: Sequence[Sequence[str]]

  def holds_numbers(self, column: int) -> bool:
    """Returns whether all cells of a column, which is not the first, are numbers or empty.

    Args:
      column: from 0.

    Example:
      >>> table = Table(heading=["model", "accuracy"], rows=[["base", "92.8 ± 0.3"], ["q", "–"]])
      >>> table.holds_numbers(0), table.holds_numbers(1)
      (False, True)
    """
    return column > 0 and all(_NUMBER.fullmatch(row[column]) for row in self.rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Text:
  """A heading or a paragraph.

  Attributes:
    text: on one line.
    heading: whether it is a heading.
  """

  text: str
  heading: bool = False


def parse(markdown: str) -> Iterator[Table | Text]:
  """Yields the parts of a text.

  Args:
    markdown: headings, paragraphs and tables, with empty lines between them.

  Example:
    >>> [type(part).__name__ for part in parse("# One\\n\\nWords.\\n\\n| a |\\n|---|\\n| 1 |")]
    ['Text', 'Text', 'Table']
  """
  for block in re.split(r"\n\s*\n", markdown.strip()):
    lines = block.splitlines()
    if lines and lines[0].startswith("#"):
      yield Text(text=lines[0].lstrip("# "), heading=True)
      lines = lines[1:]
    if lines and lines[0].startswith("|"):
      yield _table(lines)
    elif lines:
      yield Text(text=" ".join(lines))


def _table(lines: Sequence[str]) -> Table:
  # What Markdown shows bold is plain here.
  heading, _, *rows = [[cell.strip().replace("**", "") for cell in
                        line.strip().strip("|").split("|")] for line in lines]
  return Table(heading=heading, rows=rows)

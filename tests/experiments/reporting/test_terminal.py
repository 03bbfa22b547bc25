"""Tables in a terminal: whatever its width, a number is whole and its heading above it."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from experiments.reporting import blocks, terminal

KEPT = sorted(Path("experiments/results").glob("*/tables.md"))


def shown(markdown, width):
  console = Console(file=io.StringIO(), width=width)
  terminal.show(markdown, console)
  return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.parent.name)
def test_the_tables_that_are_kept_lose_no_number_but_differences(file, width):
  text = shown(file.read_text(), width)
  assert all(len(line) <= width for line in text.splitlines())
  assert "|" not in text and "…" not in text
  for block in blocks.parse(file.read_text()):
    for row in block.rows if isinstance(block, blocks.Table) else ():
      for i, (name, cell) in enumerate(zip(block.heading, row, strict=True)):
        if block.holds_numbers(i) and name != "difference":
          assert re.search(rf"(^|\s){re.escape(cell)}(\s|$)", text, re.M), (name, cell)


def test_differences_go_from_the_right_and_only_where_there_is_no_room():
  table = f"| model | a | paper | difference | b | paper | difference |\n{'|---' * 7}|\n"
  table += "| base | 1.0 | 2.0 | -1.0 | 3,000.5 | 4.0 | +2,996.5 |\n"
  assert "+2,996.5" in shown(table, 80) and "-1.0" in shown(table, 80)
  narrow = shown(table, 55)
  assert "+2,996.5" not in narrow and "-1.0" in narrow and "3,000.5" in narrow

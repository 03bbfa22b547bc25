"""The guides' Python runs, block after block, as a reader would run it."""

import re
import sys
import types
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  module = types.ModuleType(page.stem)
  monkeypatch.setitem(sys.modules, page.stem, module)
  text = page.read_text()
  blocks = list(re.finditer(r"```python\n(.*?)```", text, re.S))
  assert blocks
  for block in blocks:
    line = text[:block.start()].count("\n") + 1
    # Compiled with its place in the page, which a traceback then shows.
    exec(compile("\n" * line + block[1], str(page), "exec"), module.__dict__)
  printed = capsys.readouterr().out
  # What a comment says is printed, is printed.
  for said in re.findall(r"print\(.*\) +# (.*)", text):
    assert said in printed

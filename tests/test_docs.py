"""The guides' Python runs, block after block, as a reader would run it."""

import re
import sys
import types
from pathlib import Path

import pytest

import compress_jax as cj

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))


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


def test_every_public_name_has_its_place_on_an_api_page():
  pages = "".join(page.read_text() for page in sorted((DOCS / "api").glob("*.rst")))
  named = set(re.findall(r"^\.\. auto(?:function|class|exception):: (\w+)$", pages, re.M))
  modules = set(re.findall(r"^\.\. automodule:: (\S+)$", pages, re.M))
  for name in cj.__all__:
    thing = getattr(cj, name)
    if not isinstance(thing, types.ModuleType):
      assert getattr(thing, "__name__", name) in named or name == "__version__", name
    elif name != "kernels":   # of which there is a page for each
      assert thing.__name__ in modules, name

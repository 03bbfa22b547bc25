"""The library's layers: what it never imports, and that arrows point down."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "compress_jax").rglob("*.py"))


def imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      yield node.module


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_imports_only_what_lies_below(path):
  top = {name.split(".")[0] for name in imports(path)}
  # At its edge inspection prints through rich where that is installed.
  edge = {"rich"} if path.parts[-2:] == ("inspect", "terminal.py") else set()
  assert not top - edge & {"flax", "tensorflow_datasets", "matplotlib", "rich", "experiments",
                           "absl", "jinja2", "pygal", "PIL"}
  if "leaves" in path.parts:
    assert all(n.startswith("compress_jax.leaves") for n in imports(path)
               if n.startswith("compress_jax"))


def test_importing_it_loads_none_of_them():
  code = ("import sys, compress_jax, compress_jax.inspect.__main__; "
          "print([m for m in ('flax', 'tensorflow_datasets', 'tensorflow', "
          "'matplotlib', 'rich', 'experiments', 'jinja2', 'pygal', 'PIL') if m in sys.modules])")
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                       check=True).stdout
  assert out.strip() == "[]"


def test_importing_the_library_starts_no_devices():
  # Afterwards neither their number nor `jax.distributed` could be set.
  program = ("import compress_jax, jax; jax.config.update('jax_num_cpu_devices', 3); "
             "print(jax.device_count())")
  done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True,
                        env={**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"})
  assert done.stdout == "3\n", done.stderr

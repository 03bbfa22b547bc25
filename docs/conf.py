"""How Sphinx builds the site; every notebook runs while it does."""

import os
import re
import sys
import tempfile
from pathlib import Path

from compress_jax.version import __version__

_HERE = Path(__file__).parent

# The notebooks run in empty folders, from where they import `digits`.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(_HERE / "guides"), os.environ.get("PYTHONPATH")]))
# `!compress-jax …` in a notebook is this environment's, activated or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Printed tables are as wide as their columns.
os.environ["COLUMNS"] = "150"
# The notebooks compile much the same programs: each of them once.
_CACHE = tempfile.TemporaryDirectory(prefix="jax-cache-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# What JAX says of accelerators that are not there does not belong on a page.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

project = "compress_jax"
copyright = "the compress_jax authors"
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design"]
exclude_patterns = ["_*"]

nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# Signatures show names and defaults: what arguments are is in the docstrings.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Source", "params_style")]
default_role = "py:obj"
python_maximum_signature_line_length = 90
add_module_names = False


# Where pages that lie elsewhere in the repository are on the site.
_PAGES = {"RUNNING.md": "running.md", "README.md": "reproduces.md",
          "../benchmarks/README.md": "benchmarks.md",
          "../README.md#run-studies": "glossary.md#columns-of-the-results-table"}


def _on_the_site(app, path, document, content):
  """Lets links of pages that lie elsewhere in the repository lead to where these are now."""
  folder = Path(path).resolve().parent.name
  text = re.sub(r"!\[([^]]*)\]\(results/([^)]*)\)", rf"![\1](../../{folder}/results/\2)",
                content[0])
  # Folders of results have no pages: a reader is told where they are.
  text = re.sub(r"(?<!!)\[[^]]+\]\((results[^)]*)\)", rf"`{folder}/\1`", text)
  for there, here in _PAGES.items():
    text = text.replace(f"]({there})", f"]({here})")
  content[0] = text


def _linked(app, what, name, thing, options, lines):
  """Lets names in docstrings, written as users write them, lead to their entries."""
  for i, line in enumerate(lines):
    if line.strip().startswith("Example"):
      break  # code stays as it is
    found = re.sub(r"`cj\.([\w.]+)`", r"`cj.\1 <compress_jax.\1>`", line)
    found = re.sub(r"<compress_jax\.(artifact|checkpoint|stages)\b", r"<compress_jax.io.\1", found)
    # What is returned may be {path: array}, whose colon is no type's end.
    lines[i] = re.sub(r"(?<![`\w])(\{[^{}`]*: [^{}`]*\})", r"``\1``", found)


def setup(app):
  app.connect("include-read", _on_the_site)
  app.connect("autodoc-process-docstring", _linked, priority=100)  # before napoleon


html_theme = "furo"
html_title = f"compress_jax {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False

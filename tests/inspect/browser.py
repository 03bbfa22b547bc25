"""A page as a browser shows it: Chromium where there is one, else its own script in QuickJS."""

import html.parser
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import quickjs

SCRIPT = (Path(__file__).parent.parent.parent / "compress_jax" / "inspect" / "templates"
          / "page.js")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium():
  """Returns the browser's command, or None. $CHROMIUM names another one; empty, none."""
  if "CHROMIUM" in os.environ:
    return os.environ["CHROMIUM"] or None
  return next(filter(None, map(shutil.which, NAMES)), None)


def without_namespaces(text):
  """Returns a page without the names of SVG's namespaces, which no browser fetches."""
  return re.sub(r' xmlns(:xlink)?="http://www\.w3\.org/(2000/svg|1999/xlink)"', "", text)


def _run(page, *flags):
  return subprocess.run(
      [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
       f"--user-data-dir={page.parent / 'chromium'}", *flags],
      capture_output=True, text=True, timeout=120, check=True)


def screenshot(page, to, size=(1280, 1600)):
  """Writes a picture of the page."""
  _run(page, f"--window-size={size[0]},{size[1]}", "--hide-scrollbars", f"--screenshot={to}",
       page.as_uri())


def shown(page, address="", clicks=()):
  """Returns the first column of the first table, and {field: way} of what it is sorted by.

  Args:
    page: an HTML file.
    address: what follows it, "#sort=sparsity" say.
    clicks: fields whose headings are clicked, one after the other.
  """
  if chromium() is None:
    return _without_browser(page.read_text(), address, clicks)
  click = "".join(f"document.querySelector('th[data-field={f}] button').click();" for f in clicks)
  copy = page.with_name(f"clicked-{page.name}")
  copy.write_text(page.read_text().replace("</body>", f"<script>{click}</script></body>"))
  table = Table(_run(copy, "--dump-dom", copy.as_uri() + address).stdout)
  return table.names(), table.sort


def order(values, back):
  """Calls the page's own `order`."""
  engine = quickjs.Context()
  engine.eval(SCRIPT.read_text())
  return json.loads(engine.eval(f"JSON.stringify(order({json.dumps(values)}, "
                                f"{json.dumps(back)}))"))


def _without_browser(text, address, clicks):
  """Moves the rows as the page would, by its own `order`."""
  table, last = Table(text), ("", True)
  steps = [address.removeprefix("#sort="), *clicks] if address else clicks
  for step in steps:
    field = step.removeprefix("-")
    last = (field, step.startswith("-") or last == (field, False))
    values = [row[table.fields.index(field)][0] for row in table.rows]
    table.rows = [table.rows[i] for i in order(values, last[1])]
    words = any(isinstance(v, str) for v in values)
    table.sort = {field: "descending" if words == last[1] else "ascending"}
  return table.names(), table.sort


class Table(html.parser.HTMLParser):
  """The first sortable table: its fields, rows of (value, text), and how it is sorted."""

  def __init__(self, text):
    super().__init__()
    self.fields, self.rows, self.sort, self.inside, self.done = [], [], {}, False, False
    self.feed(text)

  def names(self):
    """Returns the first column."""
    return [row[0][1] for row in self.rows]

  def handle_starttag(self, tag, attrs):
    known = dict(attrs)
    if tag == "table" and not self.done:
      self.inside = "sortable" in known.get("class", "")
    elif self.inside and "data-field" in known:
      self.fields.append(known["data-field"])
      if known["aria-sort"] != "none":
        self.sort[known["data-field"]] = known["aria-sort"]
    elif self.inside and tag == "tr" and self.fields:
      self.rows.append([])
    elif self.inside and "data-value" in known:
      self.rows[-1].append([json.loads(known["data-value"]), ""])

  def handle_data(self, data):
    if self.inside and self.rows and self.rows[-1]:
      self.rows[-1][-1][1] += data.strip()

  def handle_endtag(self, tag):
    if tag == "table" and self.inside:
      self.inside, self.done = False, True

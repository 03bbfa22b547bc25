"""Pages: self-contained, complete, safe, and sorted by a click in a real browser."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import compress_jax as cj
from compress_jax.inspect import columns
from compress_jax.inspect.__main__ import main
from compress_jax.inspect.reader import read
from tests.inspect import browser, conftest

SVG = "{http://www.w3.org/2000/svg}svg"


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
  """The page of stage imp."""
  file = tmp_path_factory.mktemp("pages") / "imp.html"
  assert main([str(made[1]["imp"].directory(made[0])), "--html", str(file)]) == 0
  return file


def assert_self_contained(text):
  text = browser.without_namespaces(text)
  assert not re.search(r"(https?:)?//\w|@import|url\(|<link|<iframe", text)
  assert all(src.startswith("data:") for src in re.findall(r'src="([^"]*)"', text))
  assert "default-src 'none'" in text


def test_a_page_has_all_and_needs_nothing(page, trees):
  text = page.read_text()
  assert_self_contained(text)
  assert '<span class="here">imp</span>' in text and 'class="tree"><li>' in text
  for path in ("head/kernel", "stem/kernel", "stem/bias"):
    assert f"<h3>{path}</h3>" in text
  assert text.count('class="before"') == 2 and text.count('class="after"') == 2  # a zero bias
  pictures = re.findall(r'src="data:image/png;base64,([^"]*)"', text)
  assert len(pictures) == 2
  shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[0]))))
  mask = np.asarray(trees["imp"]["head"]["kernel"].mask)
  assert np.array_equal(shown == 255, mask.T)


def test_a_page_of_a_workdir_and_of_a_difference(made, tmp_path):
  workdir, stages = made
  assert main([str(workdir), "--html", str(tmp_path / "w.html")]) == 0
  text = (tmp_path / "w.html").read_text()
  assert_self_contained(text)
  assert text.count("<details>") == 6 and text.count("head/kernel</th>") == 3
  base, last = (str(stages[n].directory(workdir)) for n in ("base", "imp+q"))
  assert main([last, "--diff", base, "--html", str(tmp_path / "d.html")]) == 0
  text = (tmp_path / "d.html").read_text()
  assert_self_contained(text)
  assert 'data-field="change"' in text and "90.00 %" in text and "70.00 %" in text


def test_names_and_metrics_are_only_text(tmp_path):
  bad = "<script>alert(1)</script>&\""
  conftest.stage(tmp_path, "odd", {bad.replace("/", "|"): np.ones((2, 2))}, note=bad)
  for path in (tmp_path, next((tmp_path / "stages").iterdir())):
    assert main([str(path), "--html", str(tmp_path / "p.html")]) == 0
    text = (tmp_path / "p.html").read_text()
    assert "<script>alert" not in text and text.count("<script>") == 1


def test_a_click_and_an_address_sort(page, made):
  stage = read(made[1]["imp"].directory(made[0]))
  rows = columns.leaf_rows(stage)
  names = lambda field: [r["path"] for r in columns.ordered(rows, field, columns.LEAF)]
  assert browser.shown(page, clicks=["sparsity"]) == (names("sparsity"), {"sparsity": "descending"})
  assert browser.shown(page, "#sort=-dense_bytes") == (
      names("-dense_bytes"), {"dense_bytes": "ascending"})
  assert browser.shown(page, "#sort=path", ["bits", "path", "path"]) == (
      names("-path"), {"path": "descending"})


def test_rows_without_a_value_come_last():
  assert browser.order([2, None, 3, 2], False) == [2, 0, 3, 1]
  assert browser.order([2, None, 3, 2], True) == [0, 3, 2, 1]
  assert browser.order(["b", "a", None], False) == [1, 0, 2]


def test_what_a_browser_draws(page, tmp_path):
  drawings = re.findall(r"<svg.*?</svg>", page.read_text())
  assert drawings and all(ElementTree.fromstring(d).tag == SVG for d in drawings)
  if browser.chromium() is None:  # their form is all that can be told
    return
  browser.screenshot(page, tmp_path / "page.png")
  drawn = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
  blue = (drawn[..., 2] - drawn[..., 0] > 60).sum()
  assert drawn.shape == (1600, 1280, 3) and blue > 200  # the histograms' outlines
  assert len(np.unique(drawn[100:, :, 0])) > 20  # text, pictures, lines


def test_stages_of_one_name_are_told_apart(tmp_path):
  for seed in (0, 1):
    stage = cj.stages.Stage(name="base", spec={"seed": seed})
    cj.stages.run(stage, tmp_path, lambda directory: ({"w": np.ones((2, 2))}, {}))
  names = [row["stage"] for row in columns.stage_rows(read(tmp_path))]
  assert len(set(names)) == 2
  assert main([str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
  lineage = re.search(r'class="tree".*?</ul>', (tmp_path / "page.html").read_text(), re.S)[0]
  for name, seed in zip(names, ("seed 0", "seed 1"), strict=True):
    assert name in lineage and seed in lineage

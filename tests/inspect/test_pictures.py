"""Histograms and masks: what is drawn is what is there."""

import io
import re
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import compress_jax as cj
from compress_jax.inspect import charts, pictures


def test_a_png_is_read_back():
  pixels = np.random.default_rng(0).integers(0, 256, (5, 9)).astype(np.uint8)
  image = Image.open(io.BytesIO(pictures.png(pixels)))
  assert image.mode == "L" and np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("shape", [(7,), (), (300, 400), (3, 3, 40, 12), (1000, 3), (128, 129)])
def test_masks_keep_their_density(shape):
  kept = np.random.default_rng(0).random(shape) < 0.3
  pixels = pictures.shrunk(kept)
  assert max(pixels.shape) <= 128 and pixels.shape[0] <= pixels.shape[1]
  if all(n <= 128 for n in pixels.shape) and kept.size > 100:
    assert pixels.mean() / 255 == pytest.approx(kept.mean(), abs=0.02)


def test_a_small_mask_is_shown_as_it_is():
  kept = np.array([[True, False, True], [False, False, True]])
  assert pictures.shrunk(kept).tolist() == [[255, 0, 255], [0, 0, 255]]


def test_which_leaves_have_masks():
  masked = cj.prune.magnitude({"w": jnp.arange(64.0).reshape(8, 8)}, 0.5)
  assert list(pictures.masks_of(cj.quantize.affine(masked, 8)["w"])) == ["mask"]
  deployed = cj.freeze(cj.quantize.affine(masked, 8))["w"]
  assert list(pictures.masks_of(deployed)) == ["mask"]
  # What was not pruned by a mask, but has many zeros.
  unmasked = cj.freeze(cj.quantize.affine(cj.dense(masked), 8))["w"]
  name, kept = next(iter(pictures.masks_of(unmasked).items()))
  assert name == "non-zero weights" and kept.mean() == 0.5
  factors = cj.prune.magnitude(cj.factorize.svd({"w": jnp.eye(8)}, rank=4), 0.5)["w"]
  assert list(pictures.masks_of(factors)) == ["u: mask", "v: mask"]


def test_histograms_of_odd_weights():
  assert pictures.histogram(None, np.zeros(5)) is None
  assert pictures.histogram(None, np.zeros((0, 3))) is None
  for x in (np.full(4, 2.0), np.array([1.0, np.nan, np.inf]), np.float32(-3.0),
            jnp.ones(3, jnp.bfloat16), np.array([5], np.int8)):
    made = pictures.histogram(x, x)
    assert made.low < made.high and sum(made.after) > 0
    assert "nan" not in charts.histogram(made, "odd")


@pytest.mark.parametrize("values", [
    [1.0, 1.0 + 2.3e-16], [-1.7e308, 1.7e308], [5e-324, 1e-323], [1e300, np.nan], [-3e-310]])
def test_histograms_as_narrow_and_as_wide_as_floats_go(values):
  made = pictures.histogram(None, np.array(values))
  shown = [x for x in np.clip(values, -1e300, 1e300) if np.isfinite(x)]
  assert made.low <= min(shown) and max(shown) <= made.high
  assert sum(made.after) == pytest.approx(len(shown) / len(values))
  drawn = charts.histogram(made, "odd")
  assert ElementTree.fromstring(drawn) is not None
  assert not re.search(r"\b(nan|inf)\b", re.search(r'class="after".*?d="([^"]*)"', drawn, re.S)[1])


def test_charts_of_few_and_equal_points():
  for xs in ([1.0], [1.0, 1.0], [0.0, 5.0]):
    points = [charts.Point(x=x, y=1.0, name="<a>", best=True) for x in xs]
    drawn = charts.scatter(points, x_label="x", y_label="y", label="few")
    assert drawn.count("<circle") == len(xs) and "nan" not in drawn and "<a>" not in drawn
  nan = float("nan")
  for values in ([nan, 1.0], [nan], [1.0, float("inf"), 2.0]):
    drawn = charts.lines([charts.Line(name="loss", values=values)], "loss")
    assert "nan" not in drawn and "inf" not in drawn.replace("no finite value", "")


def test_a_chart_is_the_same_bytes_and_brings_no_script_or_style():
  points = [charts.Point(x=x, y=1.0, name="a", best=True) for x in (1.0, 2.0)]
  one, other = (charts.scatter(points, x_label="x", y_label="y", label="t") for _ in range(2))
  assert one == other and not re.search(r"<!--|<script|<style|<desc|pygal", one)


def test_only_the_front_is_named_and_points_are_links():
  points = [charts.Point(x=2.0, y=1.0, name="b", best=True, link="b.html"),
            charts.Point(x=1.0, y=2.0, name="a", best=True),
            charts.Point(x=1.0, y=1.0, name="c", link="c.html")]
  root = ElementTree.fromstring(charts.scatter(points, x_label="x", y_label="y", label="t"))
  named = [x.text for x in root.iter() if x.tag.endswith("text") and x.get("class") == "label"]
  titles = [x.text for x in root.iter() if x.tag.endswith("title") and ": " in x.text]
  links = [value for x in root.iter() for key, value in x.items() if key.endswith("href")]
  assert named == ["a", "b"]  # from left to right
  assert titles == ["c: 1, 1", "a: 1, 2", "b: 2, 1"] and links == ["c.html", "b.html"]
  assert len([x for x in root.iter() if x.tag.endswith("}path") and "line" in x.get("class")
              and "nofill" in x.get("class")]) == 1


def test_a_logarithmic_axis_places_points_by_ratio():
  points = [charts.Point(x=x, y=1.0, name=str(x)) for x in (1.0, 10.0, 100.0)]
  root = ElementTree.fromstring(
      charts.scatter(points, x_label="x", y_label="y", label="log", log=True))
  x = [float(c.get("cx")) for c in root.iter("{http://www.w3.org/2000/svg}circle")]
  assert x[1] - x[0] == pytest.approx(x[2] - x[1]) and x[0] < x[1]
  texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
  assert {"1", "2", "5", "10", "20", "50", "100"} <= set(texts)
  titles = {t.text for t in root.iter("{http://www.w3.org/2000/svg}title")}
  assert titles == {"1.0: 1, 1", "10.0: 10, 1", "100.0: 100, 1"}  # no logarithm under a tick


def test_a_histogram_has_the_heights_of_its_counts():
  made = pictures.Histogram(low=-1.0, high=1.0, before=(0.2, 0.4), after=(0.1, 0.0),
                            zeros=(0.0, 0.5))
  root = ElementTree.fromstring(charts.histogram(made, "<two>"))
  assert root.get("aria-label") == "<two>" and root.get("role") == "img"
  heights = {}
  for group in root.iter("{http://www.w3.org/2000/svg}g"):
    if group.get("class") in ("before", "after"):
      numbers = [float(n) for n in re.findall(r"[\d.]+", group[0].get("d"))]
      zero = numbers[1]  # a filled line starts on the axis
      heights[group.get("class")] = (zero - numbers[3], zero - numbers[7])
  assert heights["before"][1] == pytest.approx(2 * heights["before"][0], abs=0.2)
  assert heights["after"][0] == pytest.approx(heights["before"][0] / 2, abs=0.2)
  assert heights["after"][1] == 0

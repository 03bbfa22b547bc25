"""Histograms and masks: what is drawn is what is there."""

import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import compress_jax as cj
from compress_jax.inspect import pictures, svg


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
  name, kept = next(iter(pictures.masks_of(deployed).items()))
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
    assert "nan" not in svg.histogram(made, "odd")


def test_charts_of_few_and_equal_points():
  for xs in ([1.0], [1.0, 1.0], [0.0, 5.0]):
    points = [svg.Point(x=x, y=1.0, name="<a>", best=True) for x in xs]
    drawn = svg.scatter(points, x_label="x", y_label="y", label="few")
    assert drawn.count("<circle") == len(xs) and "nan" not in drawn and "<a>" not in drawn
  nan = float("nan")
  assert "nan" not in svg.lines([svg.Line(name="loss", css="loss", values=[nan, 1.0])], "loss")
  assert "nan" not in svg.lines([svg.Line(name="loss", css="loss", values=[nan])], "loss")

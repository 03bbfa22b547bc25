"""Which of many times is reported, and of which program."""

import jax
import pytest

import compress_jax as cj
from experiments.training import techniques
from experiments.training.techniques import trained as trained_lib
from tests.experiments.training.test_loop import MODEL, start, toy


def test_milliseconds_are_the_median_of_the_quietest_round_deployed(monkeypatch):
  medians, seen = iter((0.004, 0.002, 0.003, 0.005, 0.006)), []
  def latency(program, variables, images, *, batches, calls):
    seen.append((variables, len(images), calls))
    return {batches[0]: cj.metrics.Latency(median=next(medians), p95=1.0, fastest=0.0, calls=calls)}
  monkeypatch.setattr(trained_lib.cj.metrics, "latency", latency)
  model = techniques.Trained(name="convnet", num_classes=2, variables=start(), arguments={
      "widths": MODEL.widths, "hidden": MODEL.hidden})
  model = model.with_params(cj.quantize.affine(model.params, 8))
  assert techniques.milliseconds(model, toy(), calls=7, batch=20) == pytest.approx(2.0)
  assert {(n, calls) for _, n, calls in seen} == {(20, 7)}
  # A model that does not run in integers is timed on plain arrays.
  assert not any(map(cj.is_leaf, jax.tree.leaves(seen[0][0], is_leaf=cj.is_leaf)))

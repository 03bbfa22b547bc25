"""The VGG-16 study, small: its stages, its tables, bad configurations."""

import json
import runpy

import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.studies import combo
from experiments.studies import vgg16_cifar10 as vgg16

pytestmark = pytest.mark.slow


def config(**changes):
  made = runpy.run_path("configs/vgg16_cifar10.py")["get_config"]("smoke").unlock()
  made.data.name = "digits"
  made.update(changes)
  return made.lock()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("vgg16")
  return workdir, {r["combo"]: r for r in vgg16.run(config(), workdir)}


def test_every_model_of_the_tables_is_there_and_is_what_it_says(done):
  workdir, rows = done
  assert list(rows) == [*vgg16.study.PARENTS, "ratio0.5", "ratio0.9"]
  kernels = lambda row: [x for path, x in cj.entries(cj.dense(cj.artifact.load(
      workdir / row["artifact"])[0]["params"]))[0] if path.endswith("kernel")]
  for name in ("pruned", "finetuned"):
    zeros = sum((np.asarray(k) == 0).sum() for k in kernels(rows[name]))
    assert zeros >= 0.699 * sum(k.size for k in kernels(rows[name]))
  assert rows["ratio0.9"]["artifact_bytes"] < rows["ratio0.5"]["artifact_bytes"]
  assert rows["quantized8"]["artifact_bytes"] < 0.7 * rows["quantized16"]["artifact_bytes"]
  assert all(row["milliseconds"] > 0 for row in rows.values())


def test_tables_and_pages_stand_beside_the_papers(done):
  text = (done[0] / "tables.md").read_text()
  assert "| 66.90 |" in text and "| 3.09 |" in text and "difference" not in text  # other data
  assert (done[0] / "figure6.png").stat().st_size > 10_000
  assert "finetuned" in (done[0] / "report.html").read_text()
  assert json.loads((done[0] / "results.json").read_text())["environment"]["jax"]


def test_the_combinations_start_from_the_study_s_own_base_model(done):
  workdir, rows = done
  made = config().unlock()
  made.combine.combos = "base,imp,imp+q"
  combined = {r["combo"]: r for r in combo.run(combo.beside(made), workdir,
                                               results=workdir / "combo")}
  assert len(list(workdir.glob("stages/base-*"))) == 1
  assert combined["base"]["artifact_bytes"] == rows["base"]["artifact_bytes"]
  for row in combined.values():
    assert (workdir / "combo" / row["artifact"]).stat().st_size == row["artifact_bytes"]
  assert combined["imp+q"]["artifact_bytes"] < combined["imp"]["artifact_bytes"]
  assert (workdir / "combo" / "report.html").exists() and (workdir / "tables.md").exists()


def test_the_student_has_the_size_that_the_paper_gives():
  made = runpy.run_path("configs/vgg16_cifar10.py")["get_config"]("full")
  import jax
  model = models.create("vgg", num_classes=10, **made.student.arguments.to_dict())
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.ones((1, 32, 32, 3))))
  params = sum(x.size for x in jax.tree.leaves(shapes["params"]))
  assert abs(4 * params / 1e6 - 18.1) < 0.4


@pytest.mark.parametrize("changes,message", [
    ({"ratios": (1.0,)}, "config.ratios=1.0: must be a number from 0 to below 1"),
    ({"alpha": 2.0}, "config.alpha=2.0: must be a number from 0 to 1"),
    ({"calls": 0}, "config.calls=0: must be a whole number from 1")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    vgg16.config.check(config(**changes))

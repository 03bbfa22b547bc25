"""The study of models within limits, small: its stages, its files, what it says."""

import json
import runpy

import numpy as np
import pytest

import compress_jax as cj
from experiments.studies import suggest
from experiments.studies.suggest.baselines import UniformPlan, matched

pytestmark = pytest.mark.slow


def config(**changes):
  made = runpy.run_path("configs/suggest.py")["get_config"]("digits,smoke").unlock()
  made.update(changes)
  return made.lock()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("suggest")
  return workdir, suggest.run(config(max_bytes=1000), workdir)


def test_the_chosen_file_is_within_the_limit_and_is_the_plan(done):
  workdir, rows = done
  folder = workdir / "max_bytes=1000"
  (chosen,) = (r for r in rows if r["chosen"])
  file = folder / chosen["artifact"]
  assert file.stat().st_size == chosen["artifact_bytes"] <= 1000 and chosen["misses"] == ""
  plan = json.loads((folder / "plan.json").read_text())
  assert plan["chosen"][0]["combo"] == chosen["combo"]
  leaves = dict(cj.entries(cj.artifact.load(file)[0]["params"])[0])
  assert {layer["layer"] for layer in plan["layers"]} == {"conv/kernel", "head/kernel"}
  for layer in plan["layers"]:
    leaf = leaves[layer["layer"]]
    assert getattr(leaf, "bits", None) == layer["bits"]
    assert np.mean(np.asarray(cj.dense(leaf)) == 0) >= layer["sparsity"] - 0.02
  others = [r for r in rows if not r["misses"] and r["combo"] not in suggest.study.SCOPES]
  assert chosen["val_accuracy"] == max(r["val_accuracy"] for r in others)


def test_what_the_search_measured_is_what_is_deployed(done):
  workdir, rows = done
  study = suggest.Suggest(config(max_bytes=1000), workdir, _builder(), 0)
  found = study.result("search").metrics
  params = cj.search.apply(study.folded.variables["params"], study.plan("best"))
  best = found["points"][found["best"]]
  # The order of the model's arguments in the file may differ.
  assert study.scorer.size(params) == pytest.approx(best["bytes"], abs=4)
  (row,) = (r for r in rows if r["combo"] == "best")
  assert row["before_finetuning"] == pytest.approx(best["score"])
  table = study.table("accuracy")
  assert table.base == pytest.approx(found["points"][0]["score"])
  assert [len(row) for row in table.scores.values()] == [4, 4]
  assert study.scorer.milliseconds(params) > 0


def test_files_and_pages_are_there(done):
  folder = done[0] / "max_bytes=1000"
  assert all((folder / f).stat().st_size > 10_000 for f in ("front.png", "sensitivity.png"))
  text = (folder / "tables.md").read_text()
  assert "Within all limits." in text and "| uniform |" in text and "head/kernel" in text
  assert "front" in (folder / "report.html").read_text()
  assert json.loads((folder / "results.json").read_text())["config"]["max_bytes"] == 1000


def test_another_limit_trains_no_base_and_says_what_it_misses(done):
  workdir, _ = done
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("stages/base-*/metrics.json")}
  changed = config(max_bytes=200, max_accuracy_drop=0.5)
  changed.finetune.train.epochs = 0
  rows = suggest.run(changed, workdir)
  assert before == {p: p.stat().st_mtime_ns for p in workdir.glob("stages/base-*/metrics.json")}
  text = (workdir / "max_bytes=200-max_accuracy_drop=0.5" / "tables.md").read_text()
  assert "NOTHING FOUND IS WITHIN THE LIMITS. The nearest misses max_bytes by" in text
  assert all(r["misses"] for r in rows)
  assert all(r["before_finetuning"] == pytest.approx(r["val_accuracy"]) for r in rows)


def test_one_sparsity_for_all_fits_and_is_no_smaller_than_need_be():
  rng = np.random.default_rng(0)
  params = {k: rng.normal(size=(40, 30)).astype(np.float32) for k in ("a", "b")}
  size = lambda p: len(cj.artifact.encode(p))
  found = matched(params, ["a", "b"], "layer", (4, 2), lambda p: -size(p), size, 800)
  assert sorted(plan.bits for plan in found) == [2, 4]
  for plan in found:
    assert size(plan.apply(params, ["a", "b"])) <= 800
    if plan.sparsity:
      less = UniformPlan(scope="layer", sparsity=plan.sparsity - 0.03, bits=plan.bits)
      assert size(less.apply(params, ["a", "b"])) > 0.98 * 800


@pytest.mark.parametrize("changes,message", [
    ({}, "config.max_bytes, config.max_latency_ms, config.max_accuracy_drop: give at least one"),
    ({"max_accuracy_drop": 2.0}, "config.max_accuracy_drop=2.0: must be a number from 0 to 1"),
    ({"max_bytes": 0}, "config.max_bytes=0: must be a whole number from"),
    ({"max_bytes": 1, "calls": 0}, "config.calls=0: must be a whole number from 1"),
    ({"max_bytes": 1, "search": {"by": "loss"}},
     "config.search.by='loss': must be one of accuracy")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    suggest.config.check(config(**changes))


def _builder():
  from experiments.datasets import builders
  return builders.builder("digits")

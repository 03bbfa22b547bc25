"""The takeaways study, small: its stages, its tables and pictures, bad configurations."""

import json
import re
import runpy

import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.datasets import builders
from experiments.models.students import STUDENTS
from experiments.reporting import over_seeds
from experiments.studies import takeaways

pytestmark = pytest.mark.slow


def config(budget="smoke", **changes):
  made = runpy.run_path("configs/takeaways.py")["get_config"](budget).unlock()
  made.data.name = "digits" if budget == "smoke" else made.data.name
  made.update(changes)
  return made.lock()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("takeaways")
  return workdir, {r["combo"]: r for r in takeaways.run(config(), workdir)}


def kernels(workdir, row):
  params = cj.dense(cj.artifact.load(workdir / row["artifact"])[0]["params"])
  return {path: np.asarray(x) for path, x in cj.entries(params)[0] if path.endswith("kernel")}


@pytest.mark.parametrize("before,after", [
    ("pruned07", "pruned09"), ("pruned09", "pruned09+qat"), ("kd+pruned09", "kd+pruned09+qat")])
def test_what_is_pruned_is_exactly_zero_ever_after(before, after, done):
  workdir, rows = done
  old, new = (kernels(workdir, rows[name]) for name in (before, after))
  assert old.keys() == new.keys()
  assert any((x == 0).any() for x in old.values())
  assert all((new[path][x == 0] == 0).all() for path, x in old.items())


def test_every_layer_is_pruned_by_15_percent_of_what_is_left(done):
  workdir, rows = done
  old = kernels(workdir, rows["base"])
  for number in (7, 9, 20):
    for path, x in kernels(workdir, rows[f"pruned{number:02d}"]).items():
      pruned = re.search(config().pruning.where, path)
      rate = 1 - 0.85**number if pruned else (old[path] == 0).mean()
      assert abs((x == 0).sum() - rate * x.size) <= 1, path


def test_the_ensemble_is_its_members(done):
  workdir, rows = done
  members = [rows[name] for name in config().ensemble]
  loaded = [kernels(workdir, row) for row in members]
  for path, x in kernels(workdir, rows["ensemble"]).items():
    whose, _, rest = path.removeprefix("params/").partition("/")
    assert np.array_equal(x, loaded[int(whose.removeprefix("member"))][rest])
  assert rows["ensemble"]["params"] == sum(row["params"] for row in members)
  whole = sum(row["artifact_bytes"] for row in members)
  assert abs(rows["ensemble"]["artifact_bytes"] - whole) < 0.5 * whole


def test_the_ensemble_predicts_by_its_members_mean_probability(done):
  workdir, rows = done
  one = takeaways.Takeaways(config(), workdir, builders.builder("digits"), 0)
  images = one.data.test.read(np.arange(4)) / 255.0
  run = lambda t: np.asarray(t.model.apply(cj.dense(t.variables), images, train=False))
  softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
  members = np.mean([softmax(run(one.trained(name))) for name in config().ensemble], 0)
  np.testing.assert_allclose(softmax(run(one.trained("ensemble"))), members, rtol=1e-4)
  assert one.stages_run == 0 and list(rows) == list(one.names)


def test_rounds_start_from_the_round_before(done):
  one = takeaways.Takeaways(config("full"), done[0], builders.builder("digits"), 0)
  lineage = [s.name for s in one.stage("kd+pruned03+qat").lineage()]
  assert lineage == ["base", "kd", "kd+pruned01", "kd+pruned02", "kd+pruned03", "kd+pruned03+qat"]
  rates = [0.15, 0.48, 0.77, 0.83, 0.90, 0.93, 0.96, 0.97, 0.98]
  assert [takeaways.config.pruned(one.config, r) for r in rates] == [
      f"pruned{n:02d}" for n in (1, 4, 9, 11, 14, 16, 20, 22, 24)]


def test_tables_and_pictures_stand_beside_the_papers(done):
  workdir, rows = done
  text = (workdir / "tables.md").read_text()
  for key, title, _ in takeaways.report.TABLES:
    assert f"### {title}" in text, key
  ours = 100 * rows["pruned09"]["test_accuracy"]
  assert f"| Prune 77% | {ours:.2f} | 92.20 |" in text and "difference" not in text
  # On the paper's own data the difference is shown.
  made = config().unlock()
  made.data.name = "cifar10"
  theirs = takeaways.report.tables(over_seeds.means(list(rows.values())), made)
  assert f"| Prune 77% | {ours:.2f} | 92.20 | {ours - 92.2:+.2f} |" in theirs
  assert "Prune 15%" not in text and "Prune 97%" not in text  # those rounds are jumped over
  assert "| KD → Pruning 77% → Quantization |" in text
  for name in ("figure6.png", "figure10.png"):
    assert (workdir / name).stat().st_size > 10_000
  assert "kd+pruned09+qat" in (workdir / "report.html").read_text()
  assert json.loads((workdir / "results.json").read_text())["environment"]["jax"]


def test_the_picture_is_drawn_where_a_stage_has_one_seed_left(done, tmp_path):
  means = [{**row, "spread": None if name == "pruned09" else 0.01}
           for name, row in done[1].items()]
  takeaways.report.figure6(means, config(), tmp_path / "figure6.png")
  assert (tmp_path / "figure6.png").stat().st_size > 10_000


def test_sizes_order_as_the_techniques_say(done):
  _, rows = done
  size = lambda name: rows[name]["artifact_bytes"]
  assert size("qat") < size("base") and size("kd+qat") < size("kd")
  assert size("pruned20") < size("pruned09") < size("base")
  assert size("pruned09+qat") < size("qat")
  assert all(row["milliseconds"] > 0 for row in rows.values())


def test_the_paper_counts_only_what_the_configuration_prunes():
  # Table I's sizes, in MB, fit the rounds only if the projections, the last layer and norms stay.
  import jax
  made = config("full")
  model = models.create("resnet18", num_classes=10)
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.ones((1, 32, 32, 3))))["params"]
  flat = [(path, x.size) for path, x in cj.entries(shapes)[0]]
  whole = sum(n for _, n in flat)
  pruned = sum(n for path, n in flat if re.search(made.pruning.where, path))
  for number, megabytes in ((1, 38.10), (4, 23.69), (9, 10.92), (14, 5.26), (24, 1.63)):
    left = whole - pruned + pruned * 0.85**number
    assert abs(4 * left / 1e6 - megabytes) < 0.011


def test_all_designs_of_the_paper_are_there():
  made = config("full")
  assert set(made.students) == set(STUDENTS)
  assert made.combine.student == made.students.combined


@pytest.mark.parametrize("changes,message", [
    ({"calls": 0}, "config.calls=0: must be a whole number from 1"),
    ({"ensemble": ("model9",)}, "config.ensemble='model9': must be one of baseline, combined"),
    ({"pruning": {"rounds": (9, 4)}}, r"config.pruning.rounds=\(9, 4\): must be rising"),
    ({"pruning": {"rounds": (4, 20)}}, r"rounds=\(4, 20\): must have 9, the round nearest"),
    ({"pruning": {"fraction": 1.0}}, "config.pruning.fraction=1.0: must be a number from"),
    ({"distil": {"alpha": 2.0}}, "config.distil.alpha=2.0: must be a number from 0 to 1")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    takeaways.config.check(config(**changes))

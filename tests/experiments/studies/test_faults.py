"""Studies under fault: training that diverges."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest

from experiments import faults
from experiments.studies import grid, joint

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
JOINT = "--config=configs/joint.py:digits,smoke"


def config(**changes):
  made = runpy.run_path("configs/joint.py")["get_config"]("digits,smoke").unlock()
  made.update(changes)
  return made.lock()


def complete(workdir):
  return {path.parent.name.rpartition("-")[0] for path in workdir.glob("stages/*/metrics.json")}


def test_training_that_diverges_ends_with_exit_code_3_and_names_stage_epoch_and_field(tmp_path):
  done = subprocess.run(
      [sys.executable, "launch.py", JOINT, f"--workdir={tmp_path}", "--config.seeds=2",
       "--config.base.train.learning_rate=1e9"], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 3, done.stderr
  # A loss, or what overflows before it does.
  assert re.match(r"launch.py: stages failed: 2, skipped: 8; failed: base \(seed 0\): epoch 1/2: "
                  r"(loss is nan|\S+ is not finite); lower --config.base.train.learning_rate ",
                  done.stderr), done.stderr
  assert "no results are written" in done.stderr and done.stderr.count("\n") == 1
  for seed in (0, 1):
    assert f"failed: base (seed {seed}): epoch 1/2" in done.stdout
    assert f"skipped: joint (seed {seed}), because base failed" in done.stdout
  assert not complete(tmp_path) and not list(tmp_path.glob("results.*"))


def test_what_does_not_start_from_a_failed_stage_goes_on_and_is_reported(tmp_path, monkeypatch):
  broken = config(kd={"train": {"learning_rate": 1e9}})
  with pytest.raises(faults.StudyFailed, match=r"failed: 1, skipped: 2; failed: kd .*epoch 1/2: "
                     r".* lower --config.kd.train.learning_rate \(1e\+09 now\)"):
    joint.run(broken, tmp_path)
  assert complete(tmp_path) == {"base", "joint"}
  results = json.loads((tmp_path / "results.json").read_text())["results"]
  assert [row["combo"] for row in results] == ["base", "joint"]
  assert "skipped: kd+imp (seed 0), because kd failed" in (tmp_path / "missing.txt").read_text()
  assert (tmp_path / "report.html").exists() and "| joint | 6 |" in (
      tmp_path / "tables.md").read_text()
  # Nothing of it is cached, and what is reported makes room for complete results.
  monkeypatch.setattr("experiments.reporting.page.write", lambda *_, **__: None)  # for time
  monkeypatch.setattr("experiments.reporting.figures.pareto", lambda *_: None)
  assert len(joint.run(config(), tmp_path)) == 5 and not (tmp_path / "missing.txt").exists()
  before = (tmp_path / "results.csv").read_text()
  rows = joint.run(config(sparsity=0.5), tmp_path)
  other = tmp_path / "results" / "sparsity=0.5"
  assert (tmp_path / "results.csv").read_text() == before != (other / "results.csv").read_text()
  assert all((other / row["artifact"]).exists() for row in rows)


def test_a_grid_s_cell_that_diverges_beside_others_fails_alone(tmp_path):
  made = runpy.run_path("configs/grid.py")["get_config"]("mnist,smoke").unlock()
  made.data.name = "digits"
  from experiments.datasets import builders
  study = grid.study.Grid(made.lock(), tmp_path, builders.builder("digits"), 0)
  study._check_losses(jnp.array([1.0, jnp.nan, 2.0]), "epoch 3")
  study._check_losses(jnp.array([1.0, jnp.nan, jnp.inf]), "epoch 4")
  assert {place: text[:7] for place, text in study._broken.items()} == {1: "epoch 3", 2: "epoch 4"}
  with pytest.raises(faults.NotFinite, match=r"epoch 5: loss is nan; lower --config.learning_rate"):
    study._check_losses(jnp.float32(jnp.nan), "epoch 5")


def test_weights_that_are_not_finite_are_named():
  with pytest.raises(faults.NotFinite, match="after: head/kernel is not finite; do less"):
    faults.check_weights("after", {"head": {"bias": jnp.ones(2), "kernel": jnp.array([jnp.inf])},
                                   "count": jnp.int32(3)}, "do less")

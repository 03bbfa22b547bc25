"""The study, tiny: a row and a stage for each combination, killed and resumed, honest files."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.datasets import builders
from experiments.studies.combo.config import COMBOS
from experiments.training import evaluate
from tests.transforms import ALL

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
TINY = ["--config=configs/combo.py:digits,epochs=2,steps=20,rounds=2",
        "--config.teacher.arguments.depth=7", "--config.teacher.arguments.growth=6",
        "--config.student.arguments.widths=(4,6,8)", "--config.student.arguments.hidden=(16,12)",
        "--config.imp.tolerance=0.2", "--config.q.images=256",
        "--config.base.train.learning_rate=0.01"]
# The test command has what the tests below look at, CI (`ALL=1`) the whole study.
SOME = ("base", "kd", "imp", "lrtf", "q", "kd+q", "imp+lrtf", "imp+q")
SHOWN = COMBOS if ALL else tuple(name for name in COMBOS if name in SOME)
TINY += [f"--config.combos={','.join(SHOWN)}"]


def launch(workdir, data_dir, *flags):
  command = [sys.executable, "launch.py", *TINY, f"--workdir={workdir}", f"--data_dir={data_dir}",
             *flags]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, start_new_session=True)


def rows(workdir):
  with (workdir / "results.csv").open() as file:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
  """(workdir, data_dir, output) of an undisturbed run."""
  workdir, data_dir = tmp_path_factory.mktemp("study"), tmp_path_factory.mktemp("tfds")
  process = launch(workdir, data_dir)
  output = process.communicate()[0]
  assert process.returncode == 0, output
  return workdir, data_dir, output


def test_a_row_for_each_combination_from_one_stage_each(study):
  workdir, _, output = study
  count = len(SHOWN)  # with ALL the base model and fifteen of compression
  assert f"stages run now: {count};" in output
  assert re.search(rf"^{count} stages, 0 complete; trains on .*CPU.* in float32$", output, re.M)
  assert re.search(rf"\n{count - 1} of {count} stages complete; [\d.]+ (s|min) so far, about .+ "
                   r"left\n", output)
  table = rows(workdir)
  assert tuple(r["combo"] for r in table) == SHOWN and len(COMBOS) == 16
  assert len(list((workdir / "stages").iterdir())) == count
  dense = int(table[0]["dense_bytes"])
  for row in table:
    size = (workdir / row["artifact"]).stat().st_size
    assert int(row["artifact_bytes"]) == size
    assert float(row["reduction"]) == pytest.approx(1 - size / dense, abs=1e-6)
    assert 0 <= float(row["test_accuracy"]) <= 1
    assert int(row["nonzero_params"]) <= int(row["params"])
  size = {r["combo"]: int(r["artifact_bytes"]) for r in table}
  assert size["imp+q"] < min(size["imp"], size["q"])
  assert (workdir / "pareto.png").read_bytes()[:4] == b"\x89PNG"
  page = (workdir / "report.html").read_text()
  assert len(list((workdir / "inspect").glob("*.html"))) == count
  assert all(f">{r['combo']}</a></th>" in page for r in table)
  report = json.loads((workdir / "results.json").read_text())
  assert len(report["results"]) == count and report["config"]["imp"]["fraction"] == 0.2
  assert {"jax", "commit", "devices", "cores"} <= set(report["environment"])


def test_integers_predict_what_fake_quantization_does(study):
  workdir, _, _ = study
  checked = 0
  for file in (workdir / "stages").glob("*q-*/metrics.json"):
    metrics = json.loads(file.read_text())
    assert metrics["predictions_differ"] == 0 and metrics["logits_differ"] == 0
    checked += 1
  assert checked == sum(name.endswith("q") for name in SHOWN)


def test_every_artifact_predicts_what_the_table_says(study):
  workdir, data_dir, _ = study
  splits = builders.load(builders.builder("digits", str(data_dir)), validation=0.1, seed=0)
  for row in rows(workdir)[::5]:
    variables, meta = cj.artifact.load(workdir / row["artifact"])
    model = models.create(meta["model"], num_classes=meta["num_classes"], **meta["arguments"])
    accuracy = evaluate.accuracy(model, variables, splits.test, meta["lifted"])
    assert accuracy == pytest.approx(float(row["test_accuracy"]), abs=1e-9)


def test_masks_outlive_the_later_techniques(study):
  workdir, _, _ = study
  by_name = {p.name.rpartition("-")[0]: p for p in (workdir / "stages").iterdir()}
  pruned = cj.checkpoint.load(by_name["imp"] / "checkpoint")[0]["params"]
  deployed = cj.artifact.load(by_name["imp+q"] / "model.cjx")[0]["params"]
  zero = ~np.asarray(pruned["stem"]["conv"]["kernel"].mask)
  assert zero.any()
  assert (np.asarray(deployed["stem"]["conv"]["kernel"].dense())[zero] == 0).all()


def test_again_trains_nothing_and_a_killed_run_ends_the_same(study, tmp_path):
  workdir, data_dir, _ = study
  again = launch(workdir, data_dir)
  assert "stages run now: 0;" in again.communicate()[0]
  rng, some = random.Random(0), ("base", "imp", "imp+q")  # a part of the tree, for time
  kills = int(os.environ.get("KILLS", "1"))
  for number in range(kills):
    process = launch(tmp_path, data_dir, f"--config.combos={','.join(some)}")
    # A line says that a stage begins, or an epoch ends: between two of them is within a stage.
    for _ in range(rng.randint(1, 3)):
      process.stdout.readline()
    time.sleep(rng.uniform(0, 0.3))
    ended = process.poll() is not None
    assert not ended or number > 0, "it ended before it could be killed"
    if not ended:
      os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
  process = launch(tmp_path, data_dir, f"--config.combos={','.join(some)}")
  output = process.communicate()[0]
  assert process.returncode == 0, output
  assert rows(tmp_path) == [row for row in rows(workdir) if row["combo"] in some]


def test_factorizations_train_on_and_follow_the_fisher_information(study):
  workdir, data_dir, _ = study
  process = launch(workdir, data_dir, "--config.combos=imp+lrtf+tune,fisher+q")
  output = process.communicate()[0]
  assert process.returncode == 0, output
  assert "stages run now: 3;" in output  # what they start from is there
  made = {path.name.rpartition("-")[0]: path for path in (workdir / "stages").iterdir()}
  params = {name: cj.checkpoint.load(made[name] / "checkpoint")[0]["params"]
            for name in ("imp+lrtf", "imp+lrtf+tune", "lrtf", "fisher")}
  before, after = params["imp+lrtf"]["head"]["kernel"], params["imp+lrtf+tune"]["head"]["kernel"]
  assert before.rank == after.rank and (np.asarray(before.u) != np.asarray(after.u)).any()
  mask = params["imp+lrtf"]["stem"]["conv"]["kernel"].mask
  np.testing.assert_array_equal(mask, params["imp+lrtf+tune"]["stem"]["conv"]["kernel"].mask)
  plain, weighted = params["lrtf"]["head"]["kernel"], params["fisher"]["head"]["kernel"]
  assert plain.rank == weighted.rank
  assert not np.allclose(plain.dense(), weighted.dense(), atol=1e-6)
  # The rows are complete, with their quality.
  folder = next(path for path in (workdir / "results").iterdir() if "combos" in path.name)
  table = (folder / "tables.md").read_text()
  assert "## Quality" in table and "| imp+lrtf+tune | " in table and "| fisher+q | " in table


def test_a_checkpoint_cut_short_is_named_and_nothing_is_lost(study, tmp_path):
  workdir, data_dir, _ = study
  copy = tmp_path / "copy"
  shutil.copytree(workdir, copy)
  base, lrtf = (next((copy / "stages").glob(f"{name}-*")) for name in ("base", "lrtf"))
  shutil.rmtree(lrtf)
  largest = max((base / "checkpoint" / "arrays").rglob("d/*"), key=lambda p: p.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:100])
  before = sorted(p for p in copy.rglob("*.cjx"))
  process = launch(copy, data_dir)
  output = process.communicate()[0].splitlines()
  assert process.returncode == 2
  assert f"launch.py: {largest}: has 100 bytes" in output[-1]
  assert f"remove {base} to run that stage again" in output[-1]
  assert sorted(p for p in copy.rglob("*.cjx")) == before

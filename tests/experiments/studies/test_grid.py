"""The grid study: cells are what they say, in one program, and a rerun trains nothing."""

import csv
import json
import runpy

import numpy as np
import pytest
from ml_collections import ConfigDict

import compress_jax as cj
from configs import common
from experiments.reporting import paper_tables
from experiments.studies import grid
from experiments.studies.grid import report
from experiments.training import kept
from tests import pictures

pytestmark = pytest.mark.slow


def config(**changes):
  made = runpy.run_path("configs/grid.py")["get_config"]("mnist,smoke").unlock()
  made.data.update({"name": "digits", "validation": 0.3, "limit": 300})
  made.update({"sparsities": (0.0, 0.9), "steps_per_epoch": 6, **changes})
  # Enough that answers are not a matter of rounding.
  made.base.train.update({"epochs": 6, "learning_rate": 5e-3})
  return made.lock()


@pytest.fixture(scope="module")
def done(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("grid")
  return workdir, grid.run(config(compare_steps=6), workdir)


def test_cells_are_as_sparse_and_as_small_as_they_say(done):
  workdir, rows = done
  assert [(r["sparsity"], r["bits"]) for r in rows] == [
      (s, b) for s in (0.0, 0.9) for b in (32, 16, 8)]
  for row in rows:
    (file,) = workdir.glob(f"stages/sparsity{row['sparsity']:g}-bits{row['bits']}-*/model.cjx")
    assert file.stat().st_size == row["artifact_bytes"]
    params = cj.artifact.load(file)[0]["params"]
    kernel = np.asarray(cj.dense(params)["head"]["kernel"])
    assert np.mean(kernel == 0) >= row["sparsity"] - 1e-3
    if row["bits"] == 16:
      np.testing.assert_array_equal(kernel, kernel.astype(np.float16))
    if row["bits"] == 8:
      assert isinstance(params["head"]["kernel"], cj.Quantized)
  first = rows[0]
  assert first["delta_accuracy"] == 0 and first["gzip_reduction"] == 1  # the dense model
  assert rows[5]["gzip_reduction"] > rows[3]["gzip_reduction"] > 1


def test_looped_side_by_side_and_separate_agree_and_loops_compile_once(done):
  ways = list(csv.DictReader((done[0] / "ways.csv").open()))
  assert [(w["way"], w["programs"]) for w in ways] == [
      ("looped", "1"), ("vmapped", "1"), ("separate", "6")]
  assert all(float(w["weights_differ"]) < 1e-3 for w in ways)


def test_again_trains_nothing_and_the_papers_figures_stand_beside(done):
  workdir, rows = done
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("stages/*/metrics.json")}
  assert grid.run(config(), workdir) == rows
  assert before == {p: p.stat().st_mtime_ns for p in workdir.glob("stages/*/metrics.json")}
  text = (workdir / "tables.md").read_text()
  assert "95.95" in text and "-0.9278" in text  # the paper's Table I and III at 0.9, 8 bits
  assert json.loads((workdir / "results.json").read_text())["seeds"] == [0]
  assert (workdir / "accuracy.png").stat().st_size > 10_000
  page = (workdir / "report.html").read_text()
  assert all(f"0.9 at {bits} bits" in page for bits in (32, 16, 8))
  assert "sparsity0.9-bits8: 1 epoch" in page


def test_side_by_side_gives_the_same_accuracies(done, tmp_path):
  rows = grid.run(config(vmap=True), tmp_path)
  for one, other in zip(done[1], rows, strict=True):
    assert abs(one["test_accuracy"] - other["test_accuracy"]) < 0.02


def _metrics(workdir, name):
  (path,) = [path for path in workdir.glob("stages/*/metrics.json")
             if path.parent.name.rpartition("-")[0] == name]
  return json.loads(path.read_text())


def test_cells_of_one_sparsity_are_pruned_once_and_augmented(done, tmp_path):
  workdir, rows = done
  logs = {path.parent.name.rpartition("-")[0]: path.read_text()
          for path in workdir.glob("stages/sparsity0.9-*/log.txt")}
  # Cells only round; what they take counts, with the pruned model that they go on from.
  cells = [f"sparsity0.9-bits{bits}" for bits in (32, 16, 8)]
  pruned = {name: text.count("step 6/12") for name, text in logs.items()}
  assert pruned == {"sparsity0.9": 1, **dict.fromkeys(cells, 0)}
  seconds = {r["bits"]: r["seconds"] for r in rows if r["sparsity"] == 0.9}
  alone = _metrics(workdir, "sparsity0.9")["seconds"] + _metrics(workdir, "base")["seconds"]
  assert all(taken >= round(alone, 1) for taken in seconds.values())
  # Augmentation and a decaying rate reach the cells too.
  made = config(sparsities=(0.9,), bits=(32,)).unlock()
  made.data.augment.update({"crop": 1, "alternating": True, "flip": True})
  other = grid.run(made.lock(), tmp_path / "augmented")
  plain = grid.run(config(sparsities=(0.9,), bits=(32,), decays=True), tmp_path / "decays")
  losses = [_metrics(path, "sparsity0.9")["history"][0]["loss"]
            for path in (workdir, tmp_path / "augmented", tmp_path / "decays")]
  assert len(set(losses)) == 3 and len(other) == len(plain) == 1


def test_images_of_a_folder_are_read_for_the_cells_too(tmp_path):
  folder = pictures.write(tmp_path / "drawn", {"train": 16, "test": 8}, classes=2, sides=(16, 20))
  made = config(sparsities=(0.5,), bits=(8,), batch_size=8, steps_per_epoch=2).unlock()
  made.data.update({"name": "folder", "side": 16, "limit": 0})
  made.base.train.update({"epochs": 1, "batch_size": 8, "steps_per_epoch": 2})
  (row,) = grid.run(made.lock(), tmp_path / "runs", str(folder))
  assert row["artifact_bytes"] > 0 and 0 <= row["test_accuracy"] <= 1
  made.unlock().compare_steps = 2
  with pytest.raises(ValueError, match="config.compare_steps=2: must be 0 where images are read"):
    grid.run(made.lock(), tmp_path / "runs", str(folder))


def test_paper_tables_are_complete():
  assert len(paper_tables.paper("grid")["table_2"]) == 18


def test_a_model_with_batch_norms_is_refused_and_others_need_no_column_in_the_paper(tmp_path):
  made = config()
  made.unlock()
  made.model = common.model("convnet", widths=(4,), hidden=(8,))
  with pytest.raises(ValueError, match="config.model.name='convnet': has batch norms"):
    grid.run(made.lock(), tmp_path)
  assert not list(tmp_path.glob("stages/*"))
  cell = {"sparsity": 0.5, "bits": 8, "test_accuracy": 0.9, "spread": None, "delta_accuracy": 0.1,
          "gzip_bytes": 100, "gzip_reduction": 2.0, "artifact_bytes": 90, "quality": 1.0}
  assert "90.00" in report.markdown([cell], "squeezenet", same_data=False)


@pytest.mark.parametrize("model,data,same", [
    ("cnn", "mnist", True), ("alexnet", "cifar10", True), ("cnn", "cifar10", False),
    ("squeezenet", "mnist", False)])
def test_differences_are_to_the_papers_data_alone(model, data, same):
  made = ConfigDict({"model": {"name": model}, "data": {"name": data}})
  assert report.same_data(made) == same


@pytest.mark.parametrize("changes,message", [
    ({"bits": (4,)}, "config.bits=4: must be one of 32, 16, 8"),
    ({"sparsities": (1.0,)}, "config.sparsities=1.0: must be a number from 0 to below 1"),
    ({"round_epochs": 0}, "config.round_epochs=0: must be a whole number from 1")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    grid.config.check(config(**changes))


def test_a_cell_that_was_stopped_goes_on_after_its_last_epoch(tmp_path, monkeypatch):
  made = config(sparsities=(0.9,), bits=(8,), prune_epochs=2, round_epochs=2)
  whole = grid.run(made, tmp_path / "whole")
  real, seen = kept.Keeper.keep, []
  def stopping(keeper, state, history):
    real(keeper, state, history)
    name = keeper._directory.parent.name.rpartition("-")[0]
    if name != "base":
      seen.append(name)
      if len(seen) in (1, 3):
        raise KeyboardInterrupt
  monkeypatch.setattr(kept.Keeper, "keep", stopping)
  # Of the first and the third epoch none is lost, and what is pruned stays so.
  for stage, step in (("sparsity0.9", 6), ("sparsity0.9-bits8", 18)):
    with pytest.raises(KeyboardInterrupt, match=f"stage {stage}, step {step}"):
      grid.run(made, tmp_path / "stopped")
  again = grid.run(made, tmp_path / "stopped")
  assert seen == ["sparsity0.9"] * 2 + ["sparsity0.9-bits8"] * 2
  drop = lambda rows: [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
  assert drop(again) == drop(whole)

"""The birds study, small: three ways of training the teacher, its stages, its tables."""

import json
import runpy
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import save_file

import compress_jax as cj
from experiments import models, score
from experiments.datasets import builders
from experiments.models import pretrained
from experiments.reporting import paper_tables
from experiments.studies import birds, combo
from experiments.training import evaluate, loop
from tests import pictures

CLASSES = 3


def config(budget="smoke", **changes):
  made = runpy.run_path("configs/birds.py")["get_config"](budget)
  with made.unlocked():
    made.update(changes)
  return made


def teacher():
  part = config().model
  return models.create(part.name, num_classes=CLASSES, **part.arguments.to_dict())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return pictures.write(tmp_path_factory.mktemp("pictures") / "root",
                        {"train": 8, "valid": 2, "test": 2}, classes=CLASSES, sides=(24, 48))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
  """(file, variables): a teacher, named and laid out as torchvision does."""
  model, path = teacher(), tmp_path_factory.mktemp("weights") / "resnet.safetensors"
  variables = loop.initial(model, (32, 32, 3), 7)
  torch = lambda x: x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
  save_file({pretrained.torch_name(model, at): np.ascontiguousarray(torch(np.asarray(x)))
             for at, x in flatten_dict(variables).items()}, path)
  return path, variables


@pytest.fixture(scope="module")
def done(tmp_path_factory, root, weights):
  workdir = tmp_path_factory.mktemp("birds")
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(evaluate, "BATCH", 8)
    rows = birds.run(config(weights=str(weights[0])), workdir, str(root))
  return workdir, {r["combo"]: r for r in rows}


def params(done, name):
  return cj.dense(cj.artifact.load(done[0] / done[1][name]["artifact"])[0]["params"])


def test_files_are_scored_at_the_size_that_their_model_saw(done, root):
  for name in ("base", "studentnet", "quantized"):
    file = done[0] / done[1][name]["artifact"]
    scored = score.score(file, str(root))
    assert scored["test_accuracy"] == done[1][name]["test_accuracy"]
    assert cj.artifact.load(file)[1]["side"] == 32  # where 224 is the default


@pytest.mark.parametrize("renamed,message", [
    (True, "classes of other names"), (False, "for 3 classes; .* has 4")])
def test_files_are_not_scored_on_other_classes(done, root, tmp_path, renamed, message):
  other = shutil.copytree(root, tmp_path / "other")
  for split in other.iterdir():
    names = sorted(path.name for path in split.iterdir())
    # The label that was the first class's is the second's now, or there is one more.
    change = Path.rename if renamed else shutil.copytree
    change(split / names[0], split / "zzz")
  with pytest.raises(ValueError, match=message):
    score.score(done[0] / done[1]["base"]["artifact"], str(other))


@pytest.mark.slow
def test_every_model_of_the_tables_is_there_and_is_what_it_says(done):
  rows = done[1]
  assert list(rows) == ["base", "head", "scratch", "quantized", *birds.study.STUDENTS,
                        "layer-l2-1", "layer-l2-2"]
  assert rows["quantized"]["artifact_bytes"] < 0.6 * rows["base"]["artifact_bytes"]
  kernels = lambda name: [np.asarray(x) for x in jax.tree.leaves(params(done, name)) if x.ndim > 1]
  zeros = lambda name: np.array([(x == 0).mean() for x in kernels(name)])
  np.testing.assert_allclose(zeros("layer-l2-2"), 0.36, atol=0.02)
  pairs = zip(kernels("layer-l2-1"), kernels("layer-l2-2"), strict=True)
  assert all((late[early == 0] == 0).all() for early, late in pairs)


@pytest.mark.slow
def test_the_head_alone_trains_where_it_should(done, weights):
  moved = lambda name: {path for (path, a), (_, b) in zip(
      cj.entries(params(done, name))[0], cj.entries(weights[1]["params"])[0], strict=True)
      if (np.asarray(a) != np.asarray(b)).any()}
  assert moved("head") == {"head/kernel", "head/bias"}
  assert len(moved("base")) > 8
  apart = [np.abs(np.asarray(params(done, name)["stem"]["conv"]["kernel"])
                  - weights[1]["params"]["stem"]["conv"]["kernel"]).mean()
           for name in ("base", "scratch")]
  assert apart[0] < 0.1 * apart[1]


@pytest.mark.slow
def test_tables_and_pictures_stand_beside_the_papers(done):
  text = (done[0] / "tables.md").read_text()
  for theirs in ("98.63", "24,583,757", "84.00", "35.19", "last layer only, pretrained"):
    assert theirs in text
  for name in ("figure3", "figure4", "table3"):
    assert (done[0] / f"{name}.png").stat().st_size > 10_000
  assert "squeezenet-kd" in (done[0] / "report.html").read_text()
  assert json.loads((done[0] / "results.json").read_text())["environment"]["jax"]
  without = [{**r, "spread": None, "val_spread": None} for n, r in done[1].items()
             if n not in ("head", "scratch")]
  papers = birds.report.tables(without, config(), 525)
  assert "| all layers, from scratch |" in papers and "were not run" in papers
  assert "difference" in papers


@pytest.mark.slow
def test_other_data_than_the_papers_have_no_difference_in_accuracy(done):
  text = (done[0] / "tables.md").read_text()
  assert text.startswith(f"Ours: {CLASSES} classes; the paper's: 525 birds.")
  # Parameters have one: those of the models with the paper's classes.
  assert [line.count("difference") for line in text.splitlines() if "difference" in line] == [2]


def test_the_full_models_have_the_papers_parameters():
  made = config("full")
  for theirs in paper_tables.paper("birds")["table_2"]:
    part = made.model if theirs["model"] == "base" else made[theirs["model"]]
    params, size = birds.report.counted(part, made, paper_tables.paper("birds")["classes"])
    assert params == theirs["parameters"]
    assert abs(size / 2**20 - theirs["megabytes"]) < 0.01


def test_the_combinations_share_the_teacher_and_weights_change_it(root, weights, tmp_path):
  builder = builders.builder("folder", str(root), 32)
  ids = []
  for made in (config(), config(weights=str(weights[0]))):
    ours = birds.Birds(made, tmp_path, builder, 0)
    combined = combo.beside(made)
    combo.config.check(combined)
    combo.config.check_models(combined, builder)
    theirs = combo.Combinations(combined, tmp_path, builder, 0)
    assert ours.stage("base").digest == theirs.stage("base").digest
    ids.append(ours.stage("base").digest)
  assert ids[0] != ids[1]


def test_rounds_follow_each_other_and_differ_by_scope_and_penalty(root, tmp_path):
  made = config(prune={"grid": birds.config.GRID, "rounds": 4})
  study = birds.Birds(made, tmp_path, builders.builder("folder", str(root), 32), 0)
  assert study.names[-4:] == [f"global-l2-{i}" for i in range(1, 5)]
  for kind in birds.config.GRID:
    assert [s.name for s in study.stage(f"{kind}-3").lineage()] == [
        "base", f"{kind}-1", f"{kind}-2", f"{kind}-3"]
    spec, (scope, penalty) = study.spec(f"{kind}-3"), kind.split("-")
    assert (spec["scope"], spec["round"], spec[penalty]) == (scope, 3, made.prune[penalty])
  assert len({study.stage(name).digest for name in study.names}) == len(study.names)


def test_an_unknown_layer_to_train_is_named(root, tmp_path):
  with pytest.raises(ValueError, match=r"only='body': must be one of .*head"):
    loop.start_state(loop.initial(teacher(), (32, 32, 3), 7), "body")


@pytest.mark.parametrize("changes,message", [
    ({"alpha": 2.0}, r"config.alpha=2.0: must be a number from 0 to 1"),
    ({"prune": {"grid": ("layer",)}}, r"config.prune.grid='layer': must be one of layer-l1"),
    ({"prune": {"fraction": 1.0}}, r"config.prune.fraction=1.0: must be a number from"),
    ({"data": {"side": 8}}, r"config.data.side=8: must be a whole number from 32"),
    ({"weights": "nowhere.pth"}, r"config.weights='nowhere.pth': no such file")])
def test_bad_configurations_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    birds.config.check(config(**changes))

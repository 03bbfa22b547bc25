"""Training: resuming is exact, numbers are traced, masks stay."""

import contextlib
import dataclasses

import chex
import jax
import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.datasets.splits import Data, Split
from experiments.training import evaluate, kept, loop
from experiments.training import step as step_lib
from experiments.training.augment import Augment
from experiments.training.progress import Log
from experiments.training.recipe import Recipe


def toy(count=96):
  rng = np.random.default_rng(0)
  labels = (np.arange(count) % 2).astype(np.int32)
  images = rng.integers(0, 100, (count, 8, 8, 1)).astype(np.uint8)
  images[labels == 1] += 120
  part = lambda a, b: Split(images=images[a:b], labels=labels[a:b])
  return Data(train=part(0, 64), validation=part(64, 80), test=part(80, 96), num_classes=2)


MODEL = models.create("convnet", num_classes=2, widths=(4, 4, 4), hidden=(8, 8))
RECIPE = Recipe(epochs=5, batch_size=8, learning_rate=5e-3, augment=Augment(crop=1))


def start():
  return loop.initial(MODEL, toy().train.shape, 0)


def fit(path, recipe=RECIPE, **changes):
  return loop.fit(MODEL, changes.pop("variables", None) or start(), toy(), recipe,
                  directory=path / "work", log=Log("t", path / "log.txt"), **changes)


def same(a, b):
  chex.assert_trees_all_equal(a, b)


@contextlib.contextmanager
def interrupted(stop, monkeypatch):
  """Lets trainings be interrupted when they have begun to keep so many epochs."""
  class Interrupted(kept.Keeper):
    def keep(self, state, history):
      super().keep(state, history)
      if len(history) == stop:
        raise KeyboardInterrupt

  with monkeypatch.context() as changed:
    changed.setattr(kept, "Keeper", Interrupted)
    yield


def test_going_on_after_any_epoch_ends_the_same(tmp_path, monkeypatch):
  (tmp_path / "whole").mkdir()
  whole = fit(tmp_path / "whole")
  assert whole.accuracy == max(h["val_accuracy"] for h in whole.history) > 0.8
  for stop in (1, 3):
    path = tmp_path / f"stop{stop}"
    path.mkdir()
    with interrupted(stop, monkeypatch), pytest.raises(KeyboardInterrupt):
      fit(path)
    same(fit(path).variables, whole.variables)


def test_the_best_epoch_is_that_of_the_model_with_rounded_inputs(tmp_path):
  params = cj.quantize.dynamic(cj.quantize.affine(start()["params"], 8), bits=2)
  result = fit(tmp_path, dataclasses.replace(RECIPE, epochs=2, aware=True),
               variables={**start(), "params": params})
  of = lambda lifted: evaluate.loss_and_accuracy(MODEL, result.variables, toy().validation, lifted)
  best = max(result.history, key=lambda epoch: (epoch["val_accuracy"], -epoch["val_loss"]))
  np.testing.assert_allclose([best["val_loss"], best["val_accuracy"]], of(True), rtol=1e-4)
  assert abs(of(False)[0] - best["val_loss"]) > 1e-3


def test_a_damaged_state_is_named_with_its_remedy(tmp_path):
  fit(tmp_path, dataclasses.replace(RECIPE, epochs=2))
  manifest = tmp_path / "work" / "epoch-0002" / "manifest.json"
  whole = manifest.read_text()
  for damaged, message in ((whole.replace('"val_accuracy": ', '"val_accuracy": 1'), "fails its"),
                           (whole[:-9], "cannot be read")):
    manifest.write_text(damaged)
    with pytest.raises(cj.stages.DamagedStage, match=f"manifest.json: {message}.*; remove "
                       f"{tmp_path / 'work'} to train from the start"):
      fit(tmp_path)


def test_training_keeps_masks_and_compiles_once(tmp_path):
  variables = start()
  compiled = step_lib.steps_program(MODEL, RECIPE.augment)
  before = None
  for number, sparsity in enumerate((0.5, 0.8, 0.9)):
    pruned = {**variables, "params": cj.prune.magnitude(variables["params"], sparsity)}
    path = tmp_path / str(number)
    path.mkdir()
    recipe = dataclasses.replace(RECIPE, epochs=1 + number, learning_rate=1e-3 * (1 + number))
    trained = fit(path, recipe, variables=pruned).variables["params"]
    for old, new in zip(jax.tree.leaves(pruned["params"], is_leaf=cj.is_leaf),
                        jax.tree.leaves(trained, is_leaf=cj.is_leaf), strict=True):
      if isinstance(old, cj.Masked):
        assert (np.asarray(new.dense())[~np.asarray(old.mask)] == 0).all()
    # Private: JAX has no public count of a function's programs.
    assert before in (None, compiled._cache_size())
    before = compiled._cache_size()


def test_the_target_stops_training(tmp_path):
  assert len(fit(tmp_path, dataclasses.replace(RECIPE, epochs=50), target=0.5).history) < 50

"""Training: resuming is exact, numbers are traced, masks stay."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments import models
from experiments.datasets.splits import Data, Split
from experiments.training import loop
from experiments.training import step as step_lib
from experiments.training.augment import Augment, augment, normalize
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
  assert jax.tree.structure(a) == jax.tree.structure(b)
  jax.tree.map(np.testing.assert_array_equal, a, b)


def test_going_on_after_any_epoch_ends_the_same(tmp_path, monkeypatch):
  (tmp_path / "whole").mkdir()
  whole = fit(tmp_path / "whole")
  assert whole.accuracy == max(h["val_accuracy"] for h in whole.history) > 0.8
  keep = loop._keep
  for stop in (1, 3):
    path = tmp_path / f"stop{stop}"
    path.mkdir()
    def interrupted(directory, tree, history, stop=stop):
      keep(directory, tree, history)
      if len(history) == stop:
        raise KeyboardInterrupt
    monkeypatch.setattr(loop, "_keep", interrupted)
    with pytest.raises(KeyboardInterrupt):
      fit(path)
    monkeypatch.setattr(loop, "_keep", keep)
    same(fit(path).variables, whole.variables)


def test_training_keeps_masks_and_compiles_once(tmp_path):
  variables = start()
  compiled = step_lib.steps_program(MODEL, None, RECIPE.augment)
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
    assert before in (None, compiled._cache_size())
    before = compiled._cache_size()


def test_the_target_stops_training(tmp_path):
  assert len(fit(tmp_path, dataclasses.replace(RECIPE, epochs=50), target=0.5).history) < 50


def test_cosine_is_half_a_wave():
  rates = [float(step_lib.cosine(s, 10, 1e-3, 1e-7)) for s in (0, 5, 10, 12)]
  np.testing.assert_allclose(rates, [1e-3, (1e-3 + 1e-7) / 2, 1e-7, 1e-7], rtol=1e-4)


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)


def test_augmentation_switched_off_only_normalizes():
  np.testing.assert_allclose(augment(jax.random.key(0), IMAGES, Augment()), normalize(IMAGES),
                             atol=1e-6)


@pytest.mark.parametrize("option", [{"flip": True}, {"crop": 2}, {"rotate": 20.0}, {"jitter": 0.3}])
def test_each_part_of_the_augmentation_changes_images(option):
  out = augment(jax.random.key(0), IMAGES, Augment(**option))
  assert out.shape == IMAGES.shape and np.abs(out).max() <= 1 + 1e-6
  assert not np.allclose(out, normalize(IMAGES))
  if "flip" in option:
    plain = normalize(IMAGES)
    flipped = [np.allclose(o, p[:, ::-1]) for o, p in zip(out, plain, strict=True)]
    assert all(f or np.allclose(o, p) for f, o, p in zip(flipped, out, plain, strict=True))
    assert any(flipped)


def test_rotation_by_nothing_is_a_shift():
  from experiments.training.augment import _rotated, _shifted
  x = normalize(IMAGES)[0]
  for shift in ((0, 0), (1, -2)):
    np.testing.assert_allclose(_rotated(x, jnp.array(shift), 0.0),
                               _shifted(x, jnp.array(shift), 2), atol=1e-5)

"""Training does what its recipe says: rates, penalties, averages, which epoch, which images."""

import dataclasses

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import compress_jax as cj
from experiments import defaults
from experiments.datasets.splits import Data
from experiments.studies import recipes
from experiments.training import evaluate, loop, techniques
from experiments.training.augment import Augment
from experiments.training.draws import random_key
from experiments.training.optimizers import Optimizer
from experiments.training.progress import Log
from experiments.training.recipe import Fit
from experiments.training.views import view
from tests.experiments.training.test_loop import MODEL, RECIPE, fit, same, start, toy


@pytest.mark.parametrize("schedule,rates", [
    ("linear", [15 / 8, 11 / 8, 7 / 8, 3 / 8]), ("constant", [2, 2, 2, 2]),
    # Up in the first half, down in the second: 0, 1/4 … 1 … 1/4.
    ("one_cycle", [1 / 4, 5 / 4, 7 / 4, 3 / 4])])
@pytest.mark.parametrize("penalty,direction", [("l1", np.sign), ("l2", np.asarray)])
def test_penalties_move_weights_by_the_rate_of_each_step(schedule, rates, penalty, direction):
  # So large a penalty that nothing else moves them: each weight by its steps' rates.
  recipe = dataclasses.replace(
      RECIPE, epochs=4, steps_per_epoch=2, learning_rate=1e-7, final_learning_rate=0.0, warmup=0.5,
      schedule=schedule, optimizer=Optimizer(kind="sgd", momentum=0.0), augment=Augment(),
      **{penalty: 1e4})
  kernels = lambda state: [np.array(x) for path, x in cj.entries(trainer.variables(state))[0]
                           if path.endswith("kernel")]
  trainer, state = loop._Trainer(MODEL, toy(), recipe, None), loop.start_state(start())
  state["optimizer"] = loop.start_state(start(), method=recipe.method)["optimizer"]
  for epoch, rate in enumerate(rates):
    before = kernels(state)
    state, _ = trainer.epoch(state, epoch, "")
    for old, new in zip(before, kernels(state), strict=True):
      moved = (old - new) / (1e-3 * direction(old))
      assert np.median(moved) == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize("losses,best", [
    ((0, 0.5, 0, 0.4), 3), ((0, 0.4, 0, 0.5), 1), ((1, 0.4, 0, 0.4), 1)])
def test_of_equal_accuracies_the_epoch_with_the_smaller_loss_is_kept(losses, best, tmp_path,
                                                                     monkeypatch):
  seen, accuracies = validated(monkeypatch), (0.2, 0.9, 0.5, 0.9)
  monkeypatch.setattr(evaluate, "loss_and_accuracy",
                      lambda *_, **__: (losses[len(seen) - 1], accuracies[len(seen) - 1]))
  result = fit(tmp_path, dataclasses.replace(RECIPE, epochs=4))
  same(result.variables, seen[best])
  assert result.accuracy == 0.9 and len(seen) == 4


def test_without_a_teacher_no_view_comes_again(trained, tmp_path, monkeypatch):
  given = []
  def fits(model, variables, data, recipe, **_):
    given.append(recipe.views)
    return Fit(variables=variables, accuracy=0.5, history=[])
  monkeypatch.setattr(loop, "fit", fits)
  recipe, log = dataclasses.replace(RECIPE, views=3), Log("t", tmp_path / "log.txt")
  arguments = {"widths": MODEL.widths, "hidden": MODEL.hidden}
  techniques.teach("convnet", arguments, toy(), recipe, tmp_path, log)
  techniques.distil(trained, "convnet", arguments, toy(), recipe, tmp_path, log, temperature=2.0,
                    alpha=0.5)
  assert given == [0, 3]


def validated(monkeypatch):
  """Returns a list that fills with the variables that are evaluated."""
  seen, real = [], loop._Trainer.validate
  def validate(trainer, state):
    seen.append(jax.tree.map(np.array, trainer.variables(state)))  # copies: the memory is donated
    return real(trainer, state)
  monkeypatch.setattr(loop._Trainer, "validate", validate)
  return seen


def test_what_is_evaluated_and_kept_are_the_averages_of_every_step(tmp_path, monkeypatch):
  recipe, ema = dataclasses.replace(RECIPE, epochs=3, steps_per_epoch=1), 0.15
  found = {}
  for decay in (0.0, ema):
    with monkeypatch.context() as patch:
      seen = validated(patch)
      path = tmp_path / str(decay)
      path.mkdir()
      result = fit(path, dataclasses.replace(recipe, ema=decay))
    numbers = range(len(result.history))
    best = max(numbers, key=lambda i: (result.history[i]["val_accuracy"],
                                       -result.history[i]["val_loss"]))
    same(result.variables, seen[best])
    found[decay] = seen
  # TensorFlow's: the first steps count for more, until (1 + step) / (10 + step) is the decay.
  expected = jax.tree.map(np.array, start())
  for number, (plain, average) in enumerate(zip(*found.values(), strict=True)):
    d = min(ema, (1 + number) / (10 + number))
    expected = jax.tree.map(lambda past, x, d=d: d * past + (1 - d) * x, expected, plain)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
                 average, expected)


def test_every_step_draws_for_itself():
  images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
  data = {"images": images, "labels": np.arange(5), "order": np.tile(np.arange(5), (4, 1)),
          "offset": 0, "key": random_key(0)}
  seen = [view(step, data, {}, Augment(crop=2, mixup=0.5)) for step in range(4)]
  for part in (lambda v: v.images, lambda v: v.share, lambda v: jax.random.key_data(v.key)):
    assert len({np.asarray(part(v)).tobytes() for v in seen}) == 4


@pytest.mark.parametrize("field", [*defaults.TRAIN, "epochs", "batch_size", "steps_per_epoch",
                                   "learning_rate", "final_learning_rate", "l1", "l2"])
def test_every_field_of_the_configuration_reaches_the_recipe(field):
  train = {"epochs": 2, "batch_size": 8, "steps_per_epoch": 3, "learning_rate": 0.1,
           "final_learning_rate": 0.0}
  value = {"optimizer": "muon", "rest_optimizer": "sgd", "schedule": "linear",
           "normalize_filters": True}.get(field, 7)
  made = recipes.recipe(ConfigDict({**train, field: value}), ConfigDict({}), seed=5, field="")
  name = {"optimizer": "kind", "rest_optimizer": "rest"}.get(field, field)
  assert (vars(made) | vars(made.optimizer))[name] == value and made.seed == 5


class Unread:
  """A split that must not be looked at."""

  def __getattr__(self, name):
    raise AssertionError(f"{name} of a split that nothing may depend on")

  def __len__(self):
    raise AssertionError("length of a split that nothing may depend on")


@pytest.fixture
def trained():
  return techniques.Trained(name="convnet", num_classes=2, variables=start(), arguments={
      "widths": MODEL.widths, "hidden": MODEL.hidden})


def test_nothing_is_calibrated_or_selected_by_test_images(trained, tmp_path):
  data, log = toy(), Log("t", tmp_path / "log.txt")
  blind = dataclasses.replace(data, test=Unread())
  recipe = dataclasses.replace(RECIPE, epochs=1)
  techniques.finetune(trained, blind, recipe, tmp_path / "a", log, stream="a")
  techniques.prune_iteratively(trained, blind, recipe, tmp_path / "b", log, stream="b",
                               fraction=0.5, tolerance=1.0, rounds=1)
  folded = techniques.without_norms(trained)
  params = cj.quantize.affine(folded.params, 8)
  # Grids of inputs are of training images alone.
  found = [techniques.calibrated(folded, params, Data(
      train=part.train, validation=Unread(), test=Unread(), num_classes=2), activation_bits=8,
      images=32).params for part in (data, dataclasses.replace(data, train=data.test))]
  scales = [np.stack([x.input.scale for _, x in cj.entries(p)[0] if cj.is_leaf(x)]) for p in found]
  assert not np.array_equal(*scales)


def test_the_last_round_that_recovered_is_the_result(trained, tmp_path, monkeypatch):
  splits, accuracies, data = [], iter((0.9, 0.8, 0.7)), toy()
  def accuracy(self, split):
    splits.append(split)
    return 0.85
  monkeypatch.setattr(techniques.Trained, "accuracy", accuracy)
  def trains(model, variables, data, recipe, *, target, **_):
    assert target == pytest.approx(0.85 - 0.1)
    moved = jax.tree.map(lambda x: x + 1 if x.dtype == np.float32 else x, variables)
    return Fit(variables=moved, accuracy=next(accuracies), history=[])
  monkeypatch.setattr(loop, "fit", trains)
  best, details = techniques.prune_iteratively(
      trained, data, RECIPE, tmp_path, Log("t", tmp_path / "log.txt"), stream="imp", fraction=0.5,
      tolerance=0.1, rounds=9)
  assert [r["recovered"] for r in details["rounds"]] == [True, True, False]
  assert [r["sparsity"] for r in details["rounds"]] == [0.5, 0.75, 0.875]
  assert details["sparsity"] == 0.75 and splits == [data.validation]
  kept = [x.mask for _, x in cj.entries(best.params)[0] if cj.is_leaf(x)]
  left = sum(int(m.sum()) for m in kept) / sum(m.size for m in kept)
  assert left == pytest.approx(0.25, abs=0.01)
  # Every round starts from the values of before, not from those of the last one.
  for (_, old), (_, new) in zip(cj.entries(trained.params)[0], cj.entries(best.params)[0],
                                strict=True):
    if cj.is_leaf(new):
      np.testing.assert_array_equal(new.value[new.mask], old[new.mask] + 1)

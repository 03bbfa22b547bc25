"""Trainings of one model see different images; what has no stream sees what it always saw."""

import itertools

import jax
import numpy as np
import pytest

from experiments.training import input_pipeline, techniques
from experiments.training.augment import Augment, alternating_flips
from experiments.training.draws import Draws, random_key
from experiments.training.progress import Log
from experiments.training.recipe import Recipe
from tests.experiments.training.test_loop import MODEL, start, toy

# Nothing is learned: losses differ where images or their augmentation do.
STILL = Recipe(epochs=1, batch_size=8, learning_rate=0.0, final_learning_rate=0.0,
               augment=Augment(crop=2))


def numbers(draws, epoch):
  """Returns all that chance decides in an epoch, as numbers."""
  flips = alternating_flips(np.arange(64), epoch, draws.flips)
  return [*jax.random.key_data(draws.key(epoch)).tolist(), *draws.order(64, 8, 8, epoch).ravel(),
          *np.asarray(flips).tolist()]


def test_without_a_stream_a_seed_and_an_epoch_decide():
  key = jax.random.fold_in(random_key(3), 2)
  assert (jax.random.key_data(Draws(3).key(2)) == jax.random.key_data(key)).all()
  np.testing.assert_array_equal(Draws(3).order(64, 7, 8, 2), input_pipeline.order(64, 7, 8, [3, 2]))
  assert Draws(3).flips == 3


def test_every_stream_seed_and_epoch_draws_for_itself():
  found = {(seed, stream, epoch): numbers(Draws(seed, stream), epoch)
           for seed, stream, epoch in itertools.product((0, 1), ("", "imp 1", "imp 2"), (0, 1))}
  assert len({tuple(each) for each in found.values()}) == len(found)
  assert found[0, "imp 1", 1] == numbers(Draws(0, "imp 1"), 1)


@pytest.fixture
def trained(tmp_path):
  (tmp_path / "log.txt").touch()
  return techniques.Trained(name="convnet", num_classes=2, variables=start(), arguments={
      "widths": MODEL.widths, "hidden": MODEL.hidden})


def test_a_training_that_goes_on_sees_other_images(trained, tmp_path):
  log = Log("t", tmp_path / "log.txt")
  losses = {}
  for name, stream in (("again", "a"), ("once", "a"), ("other", "b"), ("first", "")):
    _, details = techniques.finetune(trained, toy(), STILL, tmp_path / name, log, stream=stream)
    losses[name] = details["history"][0]["loss"]
  assert losses["again"] == losses["once"]
  assert len({losses["once"], losses["other"], losses["first"]}) == 3


def test_every_round_of_pruning_sees_other_images(trained, tmp_path):
  _, details = techniques.prune_iteratively(
      trained, toy(), STILL, tmp_path, Log("t", tmp_path / "log.txt"), stream="imp",
      fraction=1e-6, tolerance=1.0, rounds=3)
  seen = [round_["history"][0]["loss"] for round_ in details["rounds"]]
  assert len(set(seen)) == len(seen) == 3

"""A teacher is asked once about what all of its students see."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from experiments.training import answers, input_pipeline, loop
from experiments.training.answers import Answers
from experiments.training.augment import Augment, normalize
from experiments.training.draws import random_key
from experiments.training.recipe import Teacher
from experiments.training.views import view
from tests.experiments.training.test_input_pipeline import Disk
from tests.experiments.training.test_loop import MODEL, RECIPE, fit, same, start, toy

EVERYTHING = Augment(crop=1, flip=True, alternating=True, cutout=2, mixup=0.5)
NUMBERS = {"epoch": 1, "seed": 3}


def teacher(known=None, seed=1):
  variables = loop.initial(MODEL, toy().train.shape, seed)
  return Teacher(model=MODEL, variables=variables, temperature=2.0, alpha=0.9,
                 answers=known or Answers(0))


def asked(split, known, options=EVERYTHING):
  """Returns the logits of an epoch, call by call."""
  guide, program = teacher(), answers.program(MODEL, options)
  source = answers.Asked(known, "epoch", lambda data, first, last: program(
      guide.variables, data, NUMBERS, first, last))
  logits = []
  for first, last, data in input_pipeline.of(split, None, 8).calls(
      input_pipeline.order(64, 7, 8, [0])):
    data["key"] = random_key(0)
    rows = source.about(data, first, last)
    assert len(rows) == len(data["order"])
    logits.append(rows[first - data["offset"]:last - data["offset"]])
  source.keep()
  return np.concatenate(logits)


def test_the_answers_are_about_what_the_student_sees():
  logits, guide = asked(toy().train, Answers()), teacher()
  (_, _, data), = input_pipeline.of(toy().train, None, 8).calls(
      input_pipeline.order(64, 7, 8, [0]))
  data["key"] = random_key(0)
  # Compiled once: step by step, each of its operations would be.
  see = jax.jit(lambda step: view(step, data, NUMBERS, EVERYTHING).images)
  apply = jax.jit(lambda images: MODEL.apply(guide.variables, images, train=False))
  for step in range(7):
    expected = apply(see(step))
    np.testing.assert_allclose(logits[step], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("most", [0, 1 << 20])
def test_streamed_and_kept_answers_are_the_same(most, monkeypatch):
  whole = asked(toy().train, Answers())
  monkeypatch.setattr(input_pipeline, "PIECE_BYTES", 3 * 8 * 64)  # three steps a call
  known = Answers(most)
  for _ in range(2):  # the second time they are known, where there is room
    np.testing.assert_allclose(asked(Disk(toy().train), known), whole, rtol=1e-5, atol=1e-5)
  assert len(known.kept) == (most > 0)


def test_a_second_student_asks_nothing_and_learns_the_same(tmp_path, monkeypatch):
  recipe, known = dataclasses.replace(RECIPE, epochs=2), Answers()
  paths = [tmp_path / name for name in "abcd"]
  for path in paths:
    path.mkdir()
  first = fit(paths[0], recipe, teacher=teacher(known))
  alone = fit(paths[1], recipe, teacher=teacher())
  same(first.variables, alone.variables)

  def never(*_):
    raise AssertionError("the teacher was asked")
  monkeypatch.setattr(answers, "program", lambda *_: never)
  second = fit(paths[2], recipe, teacher=teacher(known))
  same(first.variables, second.variables)
  # Whatever changes the views or the teacher asks again.
  for changed in (dataclasses.replace(recipe, seed=1), dataclasses.replace(recipe, batch_size=16),
                  dataclasses.replace(recipe, augment=Augment())):
    with pytest.raises(AssertionError, match="was asked"):
      fit(paths[3], changed, teacher=teacher(known))
  with pytest.raises(AssertionError, match="was asked"):
    fit(paths[3], recipe, teacher=teacher(known, seed=2))


def test_views_that_come_again_are_asked_about_once(tmp_path):
  recipe, known = dataclasses.replace(RECIPE, epochs=5, views=2), Answers()
  paths = [tmp_path / name for name in "ab"]
  for path in paths:
    path.mkdir()
  remembered = fit(paths[0], recipe, teacher=teacher(known))
  assert len(known.kept) == 2
  # The teacher says the same when it is asked again.
  same(remembered.variables, fit(paths[1], recipe, teacher=teacher()).variables)


def test_the_teacher_matters(tmp_path):
  (tmp_path / "taught").mkdir()
  recipe = dataclasses.replace(RECIPE, epochs=1)
  taught = fit(tmp_path / "taught", recipe, teacher=teacher()).history[0]["loss"]
  assert taught != fit(tmp_path, recipe).history[0]["loss"]


def test_a_digest_tells_variables_apart():
  variables = start()
  changed = jax.tree.map(lambda x: x, variables)
  first = next(iter(changed["params"]))
  changed["params"][first]["kernel"] = changed["params"][first]["kernel"].at[0].add(1)
  assert answers.digest(variables) == answers.digest(jax.tree.map(np.asarray, variables))
  assert answers.digest(variables) != answers.digest(changed)


@pytest.mark.parametrize("changes", [{"stream": "kd+imp"}, {"steps_per_epoch": 5}])
def test_whatever_changes_the_order_of_the_images_asks_again(changes, tmp_path, monkeypatch):
  recipe, known = dataclasses.replace(RECIPE, epochs=1), Answers()
  for name in "ab":
    (tmp_path / name).mkdir()
  fit(tmp_path / "a", recipe, teacher=teacher(known))

  def never(*_):
    raise AssertionError("the teacher was asked")
  monkeypatch.setattr(answers, "program", lambda *_: never)
  with pytest.raises(AssertionError, match="was asked"):
    fit(tmp_path / "b", dataclasses.replace(recipe, **changes), teacher=teacher(known))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_hintons_at_the_teachers_temperature(smoothing, tmp_path):
  recipe = dataclasses.replace(RECIPE, epochs=1, steps_per_epoch=1, learning_rate=0.0,
                               final_learning_rate=0.0, label_smoothing=smoothing,
                               augment=Augment())
  guide, data = teacher(), toy().train
  found = fit(tmp_path, recipe, teacher=guide).history[0]["loss"]
  ids = recipe.draws.order(64, 1, 8, 0)[0]
  images, labels = normalize(jnp.asarray(data.images[ids])), jnp.asarray(data.labels[ids])
  logits, _ = MODEL.apply(start(), images, train=True, mutable=["batch_stats"])
  soft = MODEL.apply(guide.variables, images, train=False)
  hard = [float(cj.distill.cross_entropy(logits, y)) for y in (
      labels, jnp.zeros_like(labels), jnp.ones_like(labels))]
  hard = (1 - smoothing) * hard[0] + smoothing * np.mean(hard[1:])
  expected = 0.9 * float(cj.distill.kl(logits, soft, temperature=2.0)) + 0.1 * hard
  assert found == pytest.approx(expected, rel=1e-4)

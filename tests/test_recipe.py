"""Recipes: what `cj.compress` does is what the printed code does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compress_jax as cj

X = jax.random.normal(jax.random.key(0), (64, 8))
LABELS = jnp.argmax(X @ jax.random.normal(jax.random.key(1), (8, 3)), -1)
DATA = [(X[:32], LABELS[:32]), (X[32:], LABELS[32:])]


def apply(params, x):
  return jax.nn.relu(x @ params["a"]) @ params["b"]


def loss(logits, y):
  return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def start():
  keys = jax.random.split(jax.random.key(2))
  return {"a": 0.3 * jax.random.normal(keys[0], (8, 16)),
          "b": 0.3 * jax.random.normal(keys[1], (16, 3))}


RECIPES = {
    "prune": [cj.recipe.prune(0.75, rounds=2), cj.freeze],
    "aware": [functools.partial(cj.quantize.affine, bits=4), cj.recipe.calibrate(bits=8),
              cj.recipe.train(2, aware=True), cj.freeze],
    "aware factors": [functools.partial(cj.factorize.svd, rank=2),
                      functools.partial(cj.quantize.affine, bits=8), cj.recipe.calibrate(bits=8),
                      cj.recipe.train(aware=True)],
    "plan": [functools.partial(cj.search.apply, plan={"a": cj.search.Choice(bits=8, rank=3)}),
             cj.freeze],
    "all": [functools.partial(cj.factorize.svd, rank=3, where="a"),
            functools.partial(cj.prune.magnitude, sparsity=0.5),
            cj.recipe.distill(2, temperature=2.0), functools.partial(cj.quantize.affine, bits=8)],
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_printed_code_does_the_same(name):
  recipe, optimizer = RECIPES[name], optax.adam(1e-2)
  made = cj.compress(apply, start(), recipe, data=DATA, loss=loss, optimizer=optimizer)
  names = {"cj": cj, "jax": jax, "optax": optax, "params": start(),
           "apply": apply, "data": DATA, "loss": loss, "optimizer": optimizer}
  exec(cj.recipe.code(recipe), names)
  assert jax.tree.structure(made) == jax.tree.structure(names["params"])
  for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(names["params"]), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_training_lowers_the_loss_and_keeps_the_masks():
  before = cj.prune.magnitude(start(), 0.5)
  after = cj.compress(apply, start(), [functools.partial(cj.prune.magnitude, sparsity=0.5),
                                       cj.recipe.train(20)],
                      data=DATA, loss=loss, optimizer=optax.adam(1e-2))
  of = lambda params: float(loss(apply(cj.dense(params), X), LABELS))
  assert of(after) < 0.7 * of(before)
  for name in before:
    np.testing.assert_array_equal(before[name].weight_mask(), after[name].weight_mask())


# Where inputs are rounded, these stay within the grids that they were given before.
@pytest.mark.parametrize(("aware", "left"), [(False, 0.02), (True, 0.1)])
def test_weights_that_grow_beyond_their_first_grid_still_train(aware, left):
  target = jax.tree.map(lambda w: 4 * w, start())
  data = [(X, apply(target, X))]
  error = lambda y, wanted: jnp.mean((y - wanted) ** 2)
  recipe = [functools.partial(cj.quantize.affine, bits=8), cj.recipe.calibrate(),
            cj.recipe.train(200, aware=aware)]
  before = cj.compress(apply, start(), recipe[:2], data=data)
  after = cj.compress(apply, start(), recipe, data=data, loss=error, optimizer=optax.adam(3e-2))
  of = lambda params: float(error(apply(cj.dense(params), X), data[0][1]))
  assert of(after) < left * of(before)
  assert max(float(jnp.abs(x.dense()).max() / jnp.abs(before[name].dense()).max())
             for name, x in after.items()) > 1.3


@pytest.mark.parametrize(("step", "given", "missing"), [
    (cj.recipe.train(), {"data": DATA, "optimizer": optax.sgd(0.1)}, "loss=None"),
    (cj.recipe.train(), {"data": DATA, "loss": loss}, "optimizer=None"),
    (cj.recipe.calibrate(), {}, r"data=\(\)")])
def test_what_is_missing_is_named(step, given, missing):
  with pytest.raises(ValueError, match=f"{missing}: must be given"):
    cj.compress(apply, start(), [step], **given)


@pytest.mark.parametrize(("recipe", "message"), [
    ([cj.freeze, cj.recipe.train()], None),
    ([functools.partial(cj.quantize.affine, bits=8), cj.freeze, cj.recipe.train()],
     "nothing of the parameters trains any more"),
    ([functools.partial(cj.quantize.affine, bits=8), cj.recipe.train(aware=True)],
     "no layer's input has a grid"),
    ([cj.recipe.train], r"cj.recipe.train makes a step and is none; must be called")])
def test_a_recipe_that_would_do_nothing_is_refused(recipe, message):
  run = lambda: cj.compress(apply, start(), recipe, data=DATA, loss=loss,
                            optimizer=optax.sgd(0.1))
  if message is None:
    run()  # plain arrays train, frozen or not
    return
  with pytest.raises(ValueError, match=message):
    run()


@pytest.mark.parametrize(("data", "message"), [
    ((batch for batch in DATA), "a generator, which can be passed over only once"),
    (iter(DATA), "a list_iterator, which can be passed over only once"),
    ({}, "gave no batch")])
def test_data_that_runs_out_is_refused(data, message):
  with pytest.raises(ValueError, match=message):
    cj.compress(apply, start(), [cj.recipe.train(5)], data=data, loss=loss,
                optimizer=optax.sgd(0.1))


@pytest.mark.parametrize(("make", "message"), [
    (lambda: cj.recipe.train(1.5), "epochs=1.5: must be a whole number from 1"),
    (lambda: cj.recipe.distill(temperature=-1), "temperature=-1: must be above 0"),
    (lambda: cj.recipe.distill(alpha=7), "alpha=7: must be from 0 to 1"),
    (lambda: cj.recipe.calibrate(99), "bits=99: must be from 2 to 16"),
    (lambda: cj.recipe.prune(1.0), "sparsity=1.0"),
    (lambda: cj.recipe.code([lambda params: params]), "has no name that code could call"),
    (lambda: cj.recipe.code([functools.partial(cj.prune.magnitude, sparsity=X)]),
     "an argument that cannot be written as Python")])
def test_numbers_and_names_are_checked_when_a_step_is_made(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_numbers_and_functions_of_a_model_do_not_train():
  params = {"w": jnp.eye(8, 3), "rate": 0.5, "act": jnp.tanh}
  apply = lambda p, x: p["act"](x @ p["w"]) * p["rate"]
  for optimizer in (optax.sgd(0.1), optax.adam(0.1)):
    trained = cj.compress(apply, params, [cj.recipe.train(1)], data=DATA, optimizer=optimizer,
                          loss=cj.distill.cross_entropy)
    assert trained["rate"] == 0.5 and trained["act"] is jnp.tanh
    assert (trained["w"] != params["w"]).any()


def test_a_step_that_returns_nothing_is_named():
  with pytest.raises(ValueError, match="recipe: .*lambda.* returned None; must return the param"):
    cj.compress(lambda p, x: x, {"w": jnp.eye(2)}, [lambda p: None])

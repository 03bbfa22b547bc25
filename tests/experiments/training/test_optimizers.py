"""Optimizers: they are optax's, masked weights stay, groups have rates of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import compress_jax as cj
from experiments.training import optimizers
from experiments.training import step as step_lib
from experiments.training.optimizers import Optimizer
from tests.experiments.training.test_loop import MODEL, RECIPE, fit, interrupted, same, start

RNG = np.random.default_rng(0)
PARAMS = {"conv": {"kernel": jnp.asarray(RNG.normal(size=(3, 3, 2, 4)), jnp.float32),
                   "bias": jnp.ones(4)},
          "head": {"kernel": jnp.asarray(RNG.normal(size=(4, 2)), jnp.float32)}}
MUON = Optimizer(kind="muon", rest="sgd", momentum=0.6, newton_schulz_steps=3,
                 normalize_filters=True, weight_decay=0.01, head_learning_rate=0.02,
                 bias_learning_rate=0.05)


def steps(optimizer, params, count=3, rate=0.1):
  """Returns the parameters after some steps with gradients of a fixed kind."""
  trainable, rest = cj.partition(params)
  state = {"trainable": trainable, "optimizer": optimizers.start(optimizer.rule, trainable)}
  for number in range(count):
    grads = jax.tree.map(lambda x, n=number: jnp.cos(x * (n + 1)), state["trainable"])
    trainable, inner = optimizers.step(optimizer.rule, state, cj.merge(state["trainable"], rest),
                                       grads, rate, optimizer.numbers(rate))
    state = {"trainable": trainable, "optimizer": inner}
  return cj.merge(state["trainable"], rest)


def reference(transformation, params, count=3):
  state = transformation.init(params)
  for number in range(count):
    grads = jax.tree.map(lambda x, n=number: jnp.cos(x * (n + 1)), params)
    updates, state = transformation.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params


@pytest.mark.parametrize("ours,theirs", [
    (Optimizer(), optax.adam(0.1)),
    (Optimizer(weight_decay=0.1),
     optax.adamw(0.1, weight_decay=0.1, mask=lambda p: jax.tree.map(lambda x: x.ndim > 1, p))),
    (Optimizer(kind="sgd", momentum=0.8), optax.sgd(0.1, momentum=0.8, nesterov=True))])
def test_steps_are_optaxs(ours, theirs):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
               steps(ours, PARAMS), reference(theirs, PARAMS))


def test_muon_takes_filters_as_matrices_and_sgd_the_rest():
  ours = steps(Optimizer(kind="muon", rest="sgd", rest_momentum=0.8, momentum=0.6,
                         newton_schulz_steps=3), PARAMS)
  sgd = reference(optax.sgd(0.1, momentum=0.8, nesterov=True), PARAMS)
  for path in (("conv", "bias"), ("head", "kernel")):
    np.testing.assert_allclose(ours[path[0]][path[1]], sgd[path[0]][path[1]], rtol=1e-5)
  # The loss of a filter depends on itself alone here, so a matrix of its own is the same.
  flat = {"w": PARAMS["conv"]["kernel"].reshape(18, 4)}
  muon = contrib.muon(0.1, ns_steps=3, beta=0.6)
  np.testing.assert_allclose(ours["conv"]["kernel"].reshape(18, 4), reference(muon, flat)["w"],
                             rtol=1e-4, atol=1e-5)


def test_groups_have_rates_of_their_own():
  at_once = {"momentum": 0.0, "kind": "sgd"}
  moved = {name: jax.tree.map(lambda a, b: np.abs(a - b).max(), PARAMS, steps(
      Optimizer(**at_once, **rates), PARAMS, count=1)) for name, rates in {
          "same": {}, "slow_head": {"head_learning_rate": 0.01},
          "fast_bias": {"bias_learning_rate": 0.5}}.items()}
  ratio = jax.tree.map(lambda a, b: round(float(a / b), 3), moved["slow_head"], moved["same"])
  assert ratio == {"conv": {"bias": 1.0, "kernel": 1.0}, "head": {"kernel": 0.1}}
  ratio = jax.tree.map(lambda a, b: round(float(a / b), 2), moved["fast_bias"], moved["same"])
  assert ratio["conv"] == {"bias": 5.0, "kernel": 1.0}


def test_a_rate_that_falls_with_none_is_refused():
  with pytest.raises(ValueError, match="learning_rate=0.0: must be above 0 beside bias_learning"):
    Optimizer(bias_learning_rate=0.1).numbers(0.0)


def test_normalized_filters_have_the_norm_of_orthogonal_ones():
  after = steps(dataclasses.replace(MUON, momentum=0.0), PARAMS, count=1, rate=1e-6)
  assert float(jnp.linalg.norm(after["conv"]["kernel"])) == pytest.approx(2.0, rel=1e-3)  # √4


@pytest.mark.parametrize("optimizer,bits", [
    (MUON, None), (MUON, 4), (Optimizer(kind="sgd", weight_decay=0.1), None),
    (Optimizer(weight_decay=0.1), 4)])
def test_masked_weights_do_not_move(optimizer, bits):
  before = cj.prune.magnitude(PARAMS, 0.5)
  if bits:
    before = cj.quantize.affine(before, bits)
  after = steps(dataclasses.replace(optimizer, normalize_filters=False), before)
  for (_, old), (_, new) in zip(cj.entries(before)[0], cj.entries(after)[0], strict=True):
    mask = old.weight_mask() if cj.is_leaf(old) else None
    if mask is not None:
      values = [x for x in jax.tree.leaves(new) if x.shape == mask.shape and x.dtype != bool]
      was = [x for x in jax.tree.leaves(old) if x.shape == mask.shape and x.dtype != bool]
      assert values and not np.array_equal(values[0], was[0])
      np.testing.assert_array_equal(values[0][~mask], was[0][~mask])
      assert not np.asarray(new.dense())[~np.asarray(mask)].any()


RECIPES = {
    "muon": dataclasses.replace(RECIPE, optimizer=MUON, schedule="linear", ema=0.8,
                                label_smoothing=0.1, learning_rate=0.05),
    "sgd": dataclasses.replace(RECIPE, optimizer=Optimizer(kind="sgd", weight_decay=1e-3),
                               schedule="one_cycle", learning_rate=0.05)}


@pytest.mark.parametrize("name", RECIPES)
def test_training_keeps_masks_and_one_program_serves_all_numbers(name, tmp_path):
  recipe = RECIPES[name]
  pruned = start()
  pruned["params"] = cj.prune.magnitude(pruned["params"], 0.5)
  whole = fit(tmp_path, recipe, variables=pruned)
  assert whole.accuracy > 0.8
  for (_, old), (_, new) in zip(cj.entries(pruned["params"])[0],
                                cj.entries(whole.variables["params"])[0], strict=True):
    if cj.is_leaf(old):
      assert not np.asarray(new.dense())[~np.asarray(old.mask)].any()
  program = step_lib.steps_program(MODEL, recipe.augment, method=recipe.method)
  (tmp_path / "more").mkdir()
  fit(tmp_path / "more", dataclasses.replace(
      recipe, epochs=2, learning_rate=0.01, optimizer=dataclasses.replace(
          recipe.optimizer, momentum=0.5, weight_decay=1e-4)), variables=pruned)
  # Private: JAX has no public count of a function's programs.
  assert program._cache_size() == 1


def test_going_on_with_muon_and_averages_ends_the_same(tmp_path, monkeypatch):
  (tmp_path / "whole").mkdir()
  whole = fit(tmp_path / "whole", RECIPES["muon"])
  with interrupted(2, monkeypatch), pytest.raises(KeyboardInterrupt):
    fit(tmp_path, RECIPES["muon"])
  same(fit(tmp_path, RECIPES["muon"]).variables, whole.variables)

"""Masks survive later transforms and training; the state keeps its shape from step to step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import compress_jax as cj
from tests.transforms import ALL, KEEP_TENSOR, PRUNES, TRANSFORMS, chained, params

OPTIMIZERS = {"sgd": optax.sgd(0.05, momentum=0.9), "adam": optax.adam(0.05),
              "adamw": optax.adamw(0.05, weight_decay=0.1)}
LATER = [name for name in KEEP_TENSOR if name not in PRUNES]


def zeros(p):
  return {k: np.asarray(cj.dense(p)[k]["kernel"]) == 0 for k in p}


@functools.cache
def program(*names):
  """Returns 50 compiled steps of every optimizer side by side; jit keys it by structure."""
  def run(trainable, rest):
    def loss(t):
      gaps = jax.tree.map(lambda a, b: ((a - b - 0.5)**2).sum(), cj.dense(cj.merge(t, rest)),
                          params())
      return sum(jax.tree.leaves(gaps))

    def step(_, states):
      out = []
      for name, (t, state) in zip(names, states, strict=True):
        updates, state = OPTIMIZERS[name].update(jax.grad(loss)(t), state, t)
        out.append((optax.apply_updates(t, updates), state))
      return out

    start = [(trainable, OPTIMIZERS[name].init(trainable)) for name in names]
    return [t for t, _ in jax.lax.fori_loop(0, 50, step, start)]
  return jax.jit(run)


@pytest.mark.sampled(3)
@pytest.mark.slow
@pytest.mark.parametrize("first", LATER)
def test_pruned_positions_stay_zero_through_any_two_transforms_and_every_optimizer(first):
  start = cj.prune.magnitude(params(), 0.6)
  zero = zeros(start)
  assert sum(z.sum() for z in zero.values()) == round(0.6 * (216 + 192))
  once = TRANSFORMS[first](start)
  # Of the prunings one: their masks are all alike, and each is trained below.
  thens = [then for then in ("block", *LATER) if then != first]
  thens = thens if ALL else thens[LATER.index(first) % 6::6]
  for p in (once, *(TRANSFORMS[then](once) for then in thens)):
    trainable, rest = cj.partition(p)
    # One transform by every optimizer, two by the one that also decays weights.
    names = tuple(OPTIMIZERS) if p is once else ("adamw",)
    for name, trained in zip(names, program(*names)(trainable, rest), strict=True):
      moved = [(a != b).any() for a, b in zip(jax.tree.leaves(trainable), jax.tree.leaves(trained),
                                              strict=True)]
      assert any(moved)
      whole = cj.merge(trained, rest)
      # The file holds what was frozen, bit by bit (`test_algebra`): look into one of the three.
      frozen = cj.freeze(whole)
      loaded = cj.artifact.decode(cj.artifact.encode(frozen))[0] if name == "adamw" else frozen
      for tree in (cj.dense(whole), cj.dense(loaded)):
        assert all((np.asarray(tree[k]["kernel"])[z] == 0).all() for k, z in zero.items())


@pytest.mark.parametrize("name", PRUNES)
def test_every_kind_of_mask_survives_training(name):
  p = chained(name)
  zero = zeros(p)
  assert all(z.any() for z in zero.values())
  trainable, rest = cj.partition(p)
  for trained in program(*OPTIMIZERS)(trainable, rest):
    for tree in (cj.merge(trained, rest), cj.freeze(cj.merge(trained, rest))):
      assert all((z == zero[k]).all() for k, z in zeros(tree).items())


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_training_state_keeps_structure_shapes_and_dtypes(name):
  p = chained(name)
  trainable, rest = cj.partition(p)
  state = (trainable, OPTIMIZERS["adam"].init(trainable))
  compiled = []

  @jax.jit
  def step(state):
    compiled.append(1)
    t, adam = state
    grads = jax.grad(lambda t: sum((x**2).sum() for x in
                                   jax.tree.leaves(cj.dense(cj.merge(t, rest)))))(t)
    updates, adam = OPTIMIZERS["adam"].update(grads, adam, t)
    return optax.apply_updates(t, updates), adam

  p = cj.quantize.refit(cj.merge(*cj.partition(p)))
  assert jax.tree.structure(p) == jax.tree.structure(chained(name))
  describe = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
  first = step(state)
  assert jax.tree.structure(first) == jax.tree.structure(state)
  assert describe(first) == describe(state)
  step(step(first))
  assert len(compiled) == 1


@pytest.mark.sampled(5)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_training_step_may_donate_tree_and_state(name):
  tx = cj.optimize(optax.adam(0.05))

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(p, state):
    loss = lambda p: sum((x**2).sum() for x in jax.tree.leaves(cj.dense(p)))
    value, grads = jax.value_and_grad(loss, allow_int=True)(p)
    updates, state = tx.update(grads, state, p)
    return cj.apply_updates(p, updates), state, value

  p = chained(name)
  state, losses = tx.init(p), []
  for _ in range(3):
    p, state, value = step(p, state)
    losses.append(float(value))
  assert losses[2] < losses[0]


@pytest.mark.parametrize("run", [lambda apply: lambda p, x: apply(cj.dense(p), x), cj.lift])
def test_a_finer_mask_within_blocks_stays_when_the_frozen_tree_trains(run):
  w = {"w": jax.random.normal(jax.random.key(0), (8, 8))}
  pruned = cj.prune.magnitude(cj.prune.block(w, 0.5, block=(4, 4)), 0.75)
  frozen = cj.freeze(pruned)
  x, model = jnp.ones((3, 8)), run(lambda p, x: x @ p["w"])
  grads = jax.grad(lambda p: (model(p, x) ** 3).sum(), allow_int=True)(frozen)["w"].blocks
  moved = frozen["w"].replace(blocks=frozen["w"].blocks + 0.1 * grads)
  np.testing.assert_array_equal(moved.dense() != 0, pruned["w"].mask)
  assert (moved.dense() != frozen["w"].dense()).any()


@pytest.mark.parametrize("deployed", [
    lambda p: cj.freeze(cj.quantize.affine(p, 8)),
    lambda p: cj.freeze(cj.quantize.affine(p, 8, symmetric=False)),
    lambda p: cj.freeze(cj.quantize.cast(p, "bfloat16")),
    lambda p: cj.artifact.decode(cj.artifact.encode(cj.quantize.affine(p, 4)))[0]])
def test_what_was_pruned_before_deployment_stays_pruned_when_it_trains_again(deployed):
  pruned = cj.prune.magnitude({"w": jax.random.normal(jax.random.key(0), (16, 16))}, 0.9)
  for again in (lambda p: cj.quantize.affine(p, 8), lambda p: cj.quantize.cast(p, "bfloat16")):
    leaf = again(deployed(pruned))["w"]
    moved = leaf.replace(value=jax.tree.map(
        lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.floating) else x, leaf.value))
    kept = np.asarray(moved.dense() != 0)
    assert not kept[~np.asarray(pruned["w"].mask)].any() and kept.any()
  # What only rounded to zero was not pruned.
  assert cj.prune.mask_of(deployed({"w": pruned["w"].value})["w"]) is None

"""Rewinding, iterative and gradual pruning."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj

INITIAL = {"w": jnp.arange(1.0, 17).reshape(4, 4), "bias": jnp.zeros(4)}
EARLY = jax.tree.map(lambda x: x + 0.5, INITIAL)
PRETRAINED = jax.tree.map(lambda x: 2 * x + 1, INITIAL)


@pytest.mark.parametrize("rewind_to", [INITIAL, EARLY, PRETRAINED, None])
def test_each_round_starts_from_what_was_asked_for(rewind_to):
  starts = []

  def train(p, number):
    starts.append(p)
    trainable, rest = cj.partition(p)
    return cj.merge(jax.tree.map(lambda x: x + 10.0 * number, trainable), rest)

  rounds = list(cj.prune.iterative(PRETRAINED, train, fraction=0.5, rounds=3, rewind_to=rewind_to))
  assert [s for s, _ in rounds] == [0.5, 0.75, 0.875]
  assert [int(p["w"].mask.sum()) for _, p in rounds] == [8, 4, 2]
  before = [PRETRAINED, *(p for _, p in rounds)]
  for start, previous in zip(starts, before, strict=False):
    expected = previous if rewind_to is None else rewind_to
    kept = np.asarray(start["w"].mask)
    np.testing.assert_array_equal(start["w"].dense()[kept], cj.dense(expected)["w"][kept])
    np.testing.assert_array_equal(start["bias"], expected["bias"])
  for (_, p), (_, q) in itertools.pairwise(rounds):
    assert not (q["w"].mask & ~p["w"].mask).any()


def test_a_training_that_donates_its_tree_leaves_what_it_rewinds_to():
  w = jnp.array(INITIAL["w"])
  initial = {"w": w, "grid": cj.quantize.affine({"w": w + 1}, 8)["w"], "bias": jnp.array(w[0])}
  params, before = jax.tree.map(jnp.copy, (initial, initial))
  step = jax.jit(lambda p: jax.tree.map(
      lambda x: x + 1 if jnp.issubdtype(x.dtype, jnp.floating) else x, p), donate_argnums=0)
  rounds = cj.prune.iterative(params, lambda p, number: step(p), fraction=0.5, rounds=3,
                              rewind_to=initial)
  assert len([sparsity for sparsity, _ in rounds]) == 3
  jax.tree.map(np.testing.assert_array_equal, initial, before)


def test_blocks_are_pruned_iteratively_and_deployed():
  params = {"w": jax.random.normal(jax.random.key(0), (16, 16))}
  prune = functools.partial(cj.prune.block, block=(4, 4))
  rounds = list(cj.prune.iterative(params, lambda p, i: p, fraction=0.5, rounds=3, prune=prune))
  stored = [cj.freeze(p)["w"].blocks.shape[0] for _, p in rounds]
  assert stored == [8, 4, 2]
  x = jax.random.normal(jax.random.key(1), (3, 16))
  p = rounds[-1][1]
  np.testing.assert_allclose(cj.lift(lambda p, x: x @ p["w"])(cj.freeze(p), x),
                             x @ p["w"].dense(), atol=1e-5)


def test_what_was_pruned_before_counts():
  half = cj.prune.magnitude(PRETRAINED, 0.5)
  rounds = list(cj.prune.iterative(half, lambda p, i: p, fraction=0.5, rounds=2))
  assert [s for s, _ in rounds] == [0.75, 0.875]
  assert [int(p["w"].mask.sum()) for _, p in rounds] == [4, 2]


def test_rewinding_keeps_masks_and_grids_and_refuses_what_has_no_values():
  p = cj.quantize.affine(cj.prune.magnitude(PRETRAINED, 0.5), 8)
  back = cj.prune.rewind(p, INITIAL)
  assert jax.tree.structure(back) == jax.tree.structure(p)
  np.testing.assert_array_equal(back["w"].value.value, INITIAL["w"])
  np.testing.assert_array_equal(back["w"].scale, p["w"].scale)
  with pytest.raises(ValueError, match="w: a LowRank cannot have its values put back"):
    cj.prune.rewind(cj.factorize.svd(PRETRAINED, rank=1), INITIAL)
  with pytest.raises(ValueError, match="bias: values has nothing there"):
    cj.prune.rewind(p, {"w": INITIAL["w"]})
  with pytest.raises(ValueError, match=r"w: values has a shape of \(4,\) there; must have"):
    cj.prune.rewind(p, {"w": jnp.ones(4), "bias": jnp.ones(4)})


@pytest.mark.parametrize("schedule", [
    cj.schedules.constant(0.75, start=4), cj.schedules.linear(0.75, stop=8),
    cj.schedules.cosine(0.75, stop=8), cj.schedules.cubic(0.75, stop=8),
], ids=["constant", "linear", "cosine", "cubic"])
def test_sparsity_follows_the_schedule_inside_one_compiled_loop(schedule):
  def step(p, i):
    p = cj.prune.gradual(p, i, schedule, every=2)
    trainable, rest = cj.partition(p)
    p = cj.merge(jax.tree.map(lambda x: x * 1.01, trainable), rest)
    return p, (p["w"].dense() == 0).sum()

  start = cj.prune.magnitude(INITIAL, 0.0)
  end, zeros = jax.jit(lambda p: jax.lax.scan(step, p, jnp.arange(10)))(start)
  expected = [round(16 * float(schedule(i - i % 2))) for i in range(10)]
  assert zeros.tolist() == expected
  assert jax.tree.structure(end) == jax.tree.structure(start)


def test_a_tree_without_masks_is_told_to_get_them_first():
  with pytest.raises(ValueError, match=r"^w: no such mask yet; call this same prune\(params"):
    cj.prune.gradual(INITIAL, 0, lambda step: 0.5)
  with pytest.raises(ValueError, match="every=0: must be from 1"):
    cj.prune.gradual(INITIAL, 0, lambda step: 0.5, every=0)
  with pytest.raises(ValueError, match="fraction=1: must be above 0, below 1"):
    next(cj.prune.iterative(INITIAL, lambda p, i: p, fraction=1, rounds=1))
  with pytest.raises(ValueError, match="rounds=0: must be a whole number from 1"):
    next(cj.prune.iterative(INITIAL, lambda p, i: p, fraction=0.5, rounds=0))


@pytest.mark.parametrize("stop", [7, 6.5, 3])
@pytest.mark.parametrize("every", [1, 4, 100])
def test_the_last_sparsity_is_reached_whatever_lies_between_prunings(every, stop):
  schedule = cj.schedules.linear(0.75, stop=stop)
  step = jax.jit(lambda p, i, every, stop: cj.prune.gradual(p, i, schedule, every=every, stop=stop))
  params = cj.prune.magnitude(INITIAL, 0.0)
  for i in range(9):
    params = step(params, i, every, stop)
    if i >= stop:
      assert (params["w"].dense() == 0).sum() == 12


def test_nothing_is_pruned_before_the_start_from_which_steps_count():
  schedule = cj.schedules.cubic(0.75, initial=0.5, start=3, stop=9)
  step = jax.jit(lambda p, i: cj.prune.gradual(p, i, schedule, every=2, start=3))
  params, zeros = cj.prune.magnitude(INITIAL, 0.0), []
  for i in range(11):
    params = step(params, i)
    zeros.append(int((params["w"].dense() == 0).sum()))
  expected = [0] * 3 + [round(16 * float(schedule(i - (i - 3) % 2))) for i in range(3, 11)]
  assert zeros == expected and zeros[3] == 8


def test_a_tree_that_is_partly_masked_loses_the_fraction_of_all_that_is_left():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(10, 10)), jnp.float32)
  params = {"a": cj.prune.magnitude({"w": w}, 0.5)["w"], "b": w + 0.1}
  left = [int(cj.count(p)[1]) for _, p in cj.prune.iterative(params, lambda p, i: p, fraction=0.5,
                                                             rounds=2)]
  assert left == [75, 38]  # 150 before


def test_masks_that_this_pruning_does_not_rank_do_not_count():
  w = jax.random.normal(jax.random.key(0), (10, 10))
  params = cj.prune.magnitude({"dense": w, "conv": w}, 0.9, where="dense")
  prune = functools.partial(cj.prune.magnitude, where="conv")
  rounds = list(cj.prune.iterative(params, lambda p, i: p, fraction=0.5, rounds=2, prune=prune))
  assert [sparsity for sparsity, _ in rounds] == [0.5, 0.75]
  assert [int(p["conv"].mask.sum()) for _, p in rounds] == [50, 25]


def test_rewinding_keeps_the_dtype():
  half = cj.prune.magnitude({"w": jnp.ones((2, 2), jnp.bfloat16)}, 0.5)
  assert cj.prune.rewind(half, {"w": jnp.full((2, 2), 3.0)})["w"].dtype == jnp.bfloat16


def test_filters_that_are_gone_already_count_as_filters():
  # They differ in size: of the weights 4 % are in the smaller layer's.
  rng = np.random.default_rng(0)
  params = {"a": jnp.asarray(rng.normal(size=(100, 4)) + 9), "b": jnp.asarray(
      rng.normal(size=(2, 12)))}
  prune = functools.partial(cj.prune.filters, scope="global", score="max")
  half = prune(params, 0.5)
  def kept(p):
    return sum(int(cj.leaves.mask_of(x).any(0).sum()) for x in p.values())
  assert kept(half) == 8
  rounds = cj.prune.iterative(half, lambda p, i: p, fraction=0.5, rounds=2, prune=prune)
  assert [kept(p) for _, p in rounds] == [4, 2]


@pytest.mark.parametrize("prune,shapes", [
    (functools.partial(cj.prune.magnitude, scope="layer"), [(4, 4), (4, 4)]),
    (functools.partial(cj.prune.magnitude, scope="layer"), [(6, 5), (6, 5)]),
    (cj.prune.magnitude, [(6, 5), (3, 4)]), (cj.prune.filters, [(6, 8)]),
    (cj.prune.filters, [(6, 10)]), (functools.partial(cj.prune.block, block=(4, 4)), [(10, 10)])])
@pytest.mark.parametrize("fraction", [0.1, 0.2])
def test_half_a_tree_that_is_pruned_counts_as_half(prune, shapes, fraction):
  params = {str(i): jnp.asarray(np.random.default_rng(i).normal(size=shape))
            for i, shape in enumerate(shapes)}
  # Of nine blocks four and a half are four.
  gone = 4 / 9 if shapes == [(10, 10)] else 0.5
  rounds = cj.prune.iterative(prune(params, gone), lambda p, i: p, fraction=fraction, rounds=2,
                              prune=prune)
  expected = [1 - (1 - gone) * (1 - fraction)**i for i in (1, 2)]
  np.testing.assert_allclose([sparsity for sparsity, _ in rounds], expected, atol=1e-5)


def test_functions_keys_and_numbers_stay_beside_what_is_pruned():
  beside = {"act": jax.nn.relu, "rate": 0.5, "key": jax.random.key(0), "step": jnp.int32(3)}
  params = {"w": jnp.arange(1.0, 17).reshape(4, 4), **beside}
  masked = cj.prune.magnitude(params, 0.0, where="w")
  prune = functools.partial(cj.prune.magnitude, where="w")
  later = cj.prune.gradual(masked, 4, lambda step: 0.5, prune=prune)
  back = cj.prune.rewind(later, {**params, "w": 2 * params["w"]})
  assert cj.count(back["w"]) == (16, 8)
  assert back["act"] is jax.nn.relu and (back["rate"], back["step"]) == (0.5, 3)
  assert jax.random.key_data(back["key"]).tolist() == jax.random.key_data(beside["key"]).tolist()
  with pytest.raises(ValueError, match="act: values has nothing there"):
    cj.prune.rewind(later, {"w": params["w"]})


def test_a_schedule_prunes_at_whole_steps():
  masked = cj.prune.magnitude(INITIAL, 0.0)
  with pytest.raises(ValueError, match="every=2.5: must be one whole number from 1"):
    cj.prune.gradual(masked, 0, lambda step: 0.5, every=2.5)

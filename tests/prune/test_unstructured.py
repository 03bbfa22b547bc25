"""Masks: exact counts, order, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


def params(seed=0):
  rng = np.random.default_rng(seed)
  return {"a": {"kernel": jnp.asarray(rng.normal(size=(7, 5)), jnp.float32), "bias": jnp.ones(5)},
          "b": {"kernel": jnp.asarray(rng.normal(size=(2, 2, 3, 4)), jnp.float32)}}


@given(st.floats(0, 1), st.sampled_from(["global", "layer"]), st.integers(0, 99))
def test_sparsity_is_exact_and_smallest_go_first(sparsity, scope, seed):
  p = cj.prune.magnitude(params(seed), sparsity, scope=scope)
  leaves = [p["a"]["kernel"], p["b"]["kernel"]]
  groups = [leaves] if scope == "global" else [[x] for x in leaves]
  for group in groups:
    mask = np.concatenate([np.ravel(x.mask) for x in group])
    value = np.concatenate([np.abs(np.ravel(x.value)) for x in group])
    assert (~mask).sum() == np.round(np.float32(sparsity) * np.float32(mask.size))
    if 0 < mask.sum() < mask.size:
      assert value[~mask].max() <= value[mask].min()
  np.testing.assert_array_equal(p["a"]["bias"], np.ones(5))


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=30), st.floats(0, 1))
def test_ties_do_not_change_the_count(values, fraction):
  pruned = np.asarray(cj.prune.smallest(jnp.array(values, jnp.float32), fraction))
  assert pruned.sum() == np.round(np.float32(fraction) * np.float32(len(values)))


def test_pruning_again_keeps_what_was_pruned():
  p, before = params(), None
  for sparsity in (0.2, 0.36, 0.488, 0.3):
    p = cj.prune.magnitude(p, sparsity)
    masks = [np.asarray(x.mask) for x in (p["a"]["kernel"], p["b"]["kernel"])]
    if before is not None:
      assert all((m <= b).all() for m, b in zip(masks, before, strict=True))
    before = masks


def test_where_picks_by_regex_and_predicate():
  for where in ("^b/", lambda path: path.startswith("b")):
    p = cj.prune.magnitude(params(), 0.5, where=where)
    assert isinstance(p["b"]["kernel"], cj.Masked)
    assert isinstance(p["a"]["kernel"], jax.Array)


@pytest.mark.parametrize("call,message", [
    (lambda: cj.prune.magnitude(params(), 1.5), "sparsity=1.5: must be from 0 to 1"),
    (lambda: cj.prune.magnitude(params(), 0.5, scope="row"), "scope='row': must be 'global' or"),
    (lambda: cj.prune.magnitude(params(), 0.5, where="zzz"), "where='zzz' matches no.*a/bias"),
    (lambda: cj.prune.magnitude(params(), 0.5, where="("),
     r"where='\(': must be a regular expression"),
    (lambda: cj.prune.magnitude({}, 0.5), "an empty tree"),
    (lambda: cj.prune.magnitude({"w": jnp.full((2, 2), jnp.nan)}, 0.5), "w: holds NaN"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_random_is_exact_repeatable_and_keeps_what_was_pruned():
  key = jax.random.key(0)
  p = cj.prune.random(params(), 0.4, key)
  masks = [np.asarray(x.mask) for x in (p["a"]["kernel"], p["b"]["kernel"])]
  assert sum((~m).sum() for m in masks) == round(0.4 * (35 + 48))
  again = cj.prune.random(params(), 0.4, key)
  np.testing.assert_array_equal(again["a"]["kernel"].mask, masks[0])
  more = cj.prune.random(p, 0.6, jax.random.key(1))
  assert (np.asarray(more["a"]["kernel"].mask) <= masks[0]).all()


def test_snip_scores_gradient_times_weight():
  x = jnp.array([[0.0, 1.0, 10.0]])
  loss = lambda p: ((x @ p["w"])**2).sum()
  w = {"w": jnp.array([[5.0], [1.0], [0.5]])}
  assert cj.prune.snip(loss, w, 1 / 3)["w"].mask.ravel().tolist() == [False, True, True]
  assert cj.prune.snip(loss, w, 2 / 3)["w"].mask.ravel().tolist() == [False, False, True]


def test_snip_refuses_gradients_without_a_rank_and_multiplies_in_full_precision():
  w = {"w": jax.random.normal(jax.random.key(0), (8, 8))}
  with pytest.raises(ValueError, match="w: holds NaN or infinity; gradients must be finite"):
    cj.prune.snip(lambda p: jnp.sqrt(p["w"] - p["w"]).sum(), w, 0.9)
  factors = jnp.arange(1.0, 65).reshape(8, 8)
  halves = {"w": jnp.full((8, 8), 1e-3, jnp.float16)}
  # Products of 1e-3 and less than 6e-5: float16 has nothing between most of them.
  loss = lambda p: 1e-6 * (p["w"].astype(jnp.float32) * factors).sum()
  mask = cj.prune.snip(loss, halves, 0.5)["w"].mask
  np.testing.assert_array_equal(mask, factors > 32)


def test_scores_that_are_no_numbers_are_refused():
  from compress_jax.prune.ranking import keep_largest
  with pytest.raises(ValueError, match="scores: hold NaN"):
    keep_largest([jnp.array([1.0, jnp.nan])], 0.5, "layer")


@pytest.mark.parametrize("size", [165, 325, 645])
def test_the_count_is_that_of_the_fraction_in_full_precision(size):
  w = jnp.arange(1.0, size + 1)[None]
  assert cj.count(cj.prune.magnitude({"w": w}, 0.7))[1] == size - round(0.7 * size)


@pytest.mark.parametrize("rounded", [
    lambda p: cj.quantize.affine(p, 2, axis=None), lambda p: cj.quantize.learned(p, 2),
    lambda p: cj.quantize.cast(p, "float8_e5m2")])
@pytest.mark.parametrize("prune", [
    lambda p: cj.prune.magnitude(p, 0.9), lambda p: cj.prune.n_m(p, 1, 4),
    lambda p: cj.prune.filters(p, 0.5), lambda p: cj.prune.block(p, 0.5, block=(4, 4))])
def test_rounded_weights_are_ranked_as_before_rounding(prune, rounded):
  params = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(64, 16)), jnp.float32)}
  plain = cj.leaves.mask_of(prune(params)["w"])
  np.testing.assert_array_equal(cj.leaves.mask_of(prune(rounded(params))["w"]), plain)


def test_a_sparsity_is_one_number():
  with pytest.raises(ValueError, match=r"sparsity=\[.*: must be one number from 0 to 1"):
    cj.prune.magnitude({"w": jnp.eye(2)}, jnp.array([0.1, 0.2]))
  with pytest.raises(ValueError, match="sparsity='0.5': must be a number from 0 to 1"):
    cj.prune.magnitude({"w": jnp.eye(2)}, "0.5")


def test_random_masks_follow_the_key_and_not_the_weights_nor_the_layer():
  w = jnp.arange(1.0, 4097).reshape(64, 64)
  masks = lambda key: [np.asarray(x.mask) for _, x in cj.entries(
      cj.prune.random({"a": w, "b": w}, 0.5, jax.random.key(key)))[0]]
  found = [*masks(0), *masks(1)]
  # Of independent masks half agree, and half of the smallest weights stay: 32 is one deviation.
  for i, one in enumerate(found):
    assert abs(one[:32].sum() - 1024) < 160
    for other in found[:i]:
      assert abs((one == other).sum() - 2048) < 160

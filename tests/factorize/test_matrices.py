"""Truncated SVD against numpy's; ranks and bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


@given(st.sampled_from([(2, 2), (12, 5), (3, 9)]), st.data())
def test_error_is_the_tail_of_the_singular_values(shape, data):
  rows, columns = shape
  rank = data.draw(st.integers(1, min(rows, columns)))
  w = np.random.default_rng(rows * columns).normal(size=(rows, columns)).astype(np.float32)
  leaf = cj.factorize.svd({"w": jnp.asarray(w)}, rank=rank)["w"]
  tail = np.sqrt((np.linalg.svd(w, compute_uv=False)[rank:]**2).sum())
  assert np.linalg.norm(leaf.dense() - w) == pytest.approx(tail, abs=1e-4)
  assert leaf.u.shape == (rows, rank) and leaf.v.shape == (rank, columns)


def test_delta_counts_down_from_where_factors_stop_saving():
  # Equation 2 of "Combinatorics with model compression": 448 * 10 / 458 = 9.78.
  leaf = cj.factorize.svd({"w": jnp.ones((448, 10))}, delta=1)["w"]
  assert leaf.rank == 8
  assert leaf.u.size + leaf.v.size < 4480


def test_convolutions_only_when_asked_and_exact_at_full_rank():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 6)), jnp.float32)
  params = {"conv": {"kernel": w, "bias": jnp.ones(6)}, "dense": jnp.eye(6)}
  assert not cj.is_leaf(cj.factorize.svd(params, rank=2)["conv"]["kernel"])
  full = cj.factorize.svd(params, rank=6, where="conv")["conv"]
  np.testing.assert_allclose(full["kernel"].dense(), w, atol=1e-5)
  np.testing.assert_array_equal(full["bias"], np.ones(6))


@given(st.floats(0.05, 1.0), st.integers(0, 20))
def test_energy_is_kept_by_the_smallest_rank_that_does(energy, seed):
  w = np.random.default_rng(seed).normal(size=(9, 6)).astype(np.float32)
  rank = cj.factorize.svd({"w": jnp.asarray(w)}, energy=energy)["w"].rank
  s = np.linalg.svd(w.astype(np.float64), compute_uv=False)**2
  share = np.cumsum(s) / s.sum()
  assert share[rank - 1] >= energy - 1e-6
  assert rank == 1 or share[rank - 2] < energy + 1e-6


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.9])
def test_one_budget_goes_where_it_keeps_most(budget):
  rng = np.random.default_rng(0)
  steep = (rng.normal(size=(30, 30)) * 0.5**np.arange(30)) @ rng.normal(size=(30, 30))
  params = {"flat": jnp.asarray(np.linalg.qr(rng.normal(size=(30, 30)))[0], jnp.float32),
            "steep": jnp.asarray(steep, jnp.float32)}
  p = cj.factorize.svd(params, budget=budget)
  spent = sum(x.u.size + x.v.size for x in p.values())
  assert budget * 1800 - 60 < spent <= budget * 1800
  # Every direction of an orthogonal matrix is worth as much; few of the steep one's are worth any.
  s = np.linalg.svd(np.asarray(params["steep"]), compute_uv=False)**2
  assert s[:p["steep"].rank].sum() / s.sum() > p["flat"].rank / 30


@given(st.integers(0, 20), st.integers(1, 5))
def test_fisher_weighted_error_is_no_worse_than_svds_on_its_own_norm(seed, rank):
  rng = np.random.default_rng(seed)
  w = jnp.asarray(rng.normal(size=(8, 6)), jnp.float32)
  information = jnp.asarray(rng.exponential(size=(8, 6)), jnp.float32)
  weighted = cj.factorize.svd({"w": w}, rank=rank, fisher={"w": information})["w"].dense()
  plain = cj.factorize.svd({"w": w}, rank=rank)["w"].dense()
  norm = lambda e: float((information.sum(1, keepdims=True) * (e - w)**2).sum())
  assert norm(weighted) <= norm(plain) * (1 + 1e-4) + 1e-5
  even = cj.factorize.svd({"w": w}, rank=rank, fisher={"w": jnp.ones((8, 6))})["w"].dense()
  np.testing.assert_allclose(even, plain, atol=1e-4)


def test_fisher_is_the_mean_of_squared_gradients():
  params = {"w": jnp.array([[1.0, 2.0]]), "b": jnp.zeros(1)}
  loss = lambda p, x: ((p["w"] @ x + p["b"])**2).sum()
  xs = [jnp.array([1.0, 0.5]), jnp.array([-1.0, 2.0])]
  found = cj.factorize.fisher(loss, cj.prune.magnitude(params, 0.0), xs)
  squared = [jax.grad(loss)(params, x)["w"]**2 for x in xs]
  np.testing.assert_allclose(found["w"], sum(squared) / 2, rtol=1e-6)
  whole = params | {"step": jnp.int32(3), "activation": jnp.tanh}
  found = cj.factorize.fisher(loss, whole, xs)
  np.testing.assert_allclose(found["w"], sum(squared) / 2, rtol=1e-6)
  assert found["step"] == 3 and found["activation"] is jnp.tanh
  with pytest.raises(ValueError, match="batches: the estimate needs at least one"):
    cj.factorize.fisher(loss, params, [])


def test_a_row_without_information_stays_finite():
  w = jnp.asarray(np.random.default_rng(0).normal(size=(5, 4)), jnp.float32)
  p = cj.factorize.svd({"w": w}, rank=4, fisher={"w": jnp.ones((5, 4)).at[2].set(0)})
  np.testing.assert_allclose(p["w"].dense(), w, atol=1e-3)


@pytest.mark.parametrize("size", [1.0, 1e-10, 1e-30, 0.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_factors_have_one_scale_however_small_the_information_is(size, dtype):
  rng = np.random.default_rng(0)
  w = jnp.asarray(rng.normal(size=(12, 8)), dtype)
  information = {"w": jnp.asarray(size * rng.exponential(size=(12, 8)), jnp.float32)}
  leaf = cj.factorize.svd({"w": w}, rank=5, fisher=information)["w"]
  np.testing.assert_allclose(jnp.linalg.norm(leaf.u.astype(jnp.float32), axis=0),
                             jnp.linalg.norm(leaf.v.astype(jnp.float32), axis=1), rtol=5e-3)
  # Ratios are all that counts; without any information it is the plain SVD.
  alike = {"w": jnp.where(size > 0, information["w"] / max(size, 1e-30), 1.0)}
  expected = cj.factorize.svd({"w": w}, rank=5, fisher=alike)["w"].dense()
  np.testing.assert_allclose(leaf.dense(), expected, atol=1e-2 if dtype == jnp.float16 else 1e-5)


def test_no_weight_gets_factors_larger_than_itself_from_a_budget():
  rng = np.random.default_rng(0)
  low = rng.normal(size=(16, 2)) @ rng.normal(size=(2, 16))
  params = {"low": jnp.asarray(low, jnp.float32),
            "full": jnp.asarray(rng.normal(size=(32, 32)), jnp.float32)}
  p = cj.factorize.svd(params, budget=0.99)
  assert p["full"].rank == 16 and p["low"].rank <= 8


@pytest.mark.parametrize("arguments,message", [
    ({"energy": 0.0}, "energy=0.0: must be above 0, up to 1"),
    ({"budget": 0.1}, r"budget=0.1: rank 1 everywhere takes 8 parameters; it must be from 0.5000"),
    ({"rank": 1, "fisher": {"v": jnp.eye(4)}}, "w: fisher has None there"),
    ({}, "give exactly one"), ({"rank": 2, "delta": 1}, "give exactly one"),
    ({"rank": -1}, "^rank=-1: must be a whole number from 1$"),
    ({"rank": 2.5}, "^rank=2.5: must be a whole number from 1$"),
    ({"rank": 5}, r"w: rank=5: the rank of a \(4, 4\) weight must be a whole number from 1 to 4"),
    ({"delta": 2}, r"delta=2 \(rank 0\)"),
    ({"rank": 1, "where": "bias"}, "none of these is a matrix: bias"),
])
def test_bad_input_names_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.factorize.svd({"w": jnp.eye(4), "bias": jnp.ones(4)}, **arguments)


def test_what_decides_shapes_must_be_known():
  factorized = jax.jit(lambda p: cj.factorize.svd(p, energy=0.9))
  with pytest.raises(ValueError, match="w: is traced, but energy or budget decide"):
    factorized({"w": jnp.eye(4)})


def test_a_matrix_of_zeros_needs_one_rank():
  assert cj.factorize.svd({"w": jnp.zeros((16, 16))}, energy=0.9)["w"].u.shape == (16, 1)


@pytest.mark.parametrize("value", [jnp.nan, -1.0, jnp.inf])
def test_information_that_is_none_is_refused(value):
  with pytest.raises(ValueError, match="w: fisher holds NaN, infinity or a negative number"):
    cj.factorize.svd({"w": jnp.eye(4)}, rank=2, fisher={"w": jnp.full((4, 4), value)})


@pytest.mark.parametrize("arguments,message", [
    ({"rank": True}, "rank=True: must be a whole number"),
    ({"delta": -2}, "delta=-2: must be a whole number")])
def test_ranks_are_whole_numbers(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.factorize.svd({"w": jnp.ones((6, 8))}, **arguments)

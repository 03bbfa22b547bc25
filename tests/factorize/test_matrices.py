"""Truncated SVD against numpy's; ranks and bad input."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


@given(st.integers(2, 12), st.integers(2, 12), st.data())
def test_error_is_the_tail_of_the_singular_values(rows, columns, data):
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


@pytest.mark.parametrize("arguments,message", [
    ({}, "give exactly one"), ({"rank": 2, "delta": 1}, "give exactly one"),
    ({"rank": -1}, r"w: rank=-1: the rank of a \(4, 4\) weight may be from 1 to 4"),
    ({"rank": 5}, "may be from 1 to 4"), ({"delta": 2}, r"delta=2 \(rank 0\)"),
    ({"rank": 1, "where": "bias"}, "none of these is a matrix: bias"),
])
def test_bad_input_names_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.factorize.svd({"w": jnp.eye(4), "bias": jnp.ones(4)}, **arguments)

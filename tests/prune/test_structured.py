"""Blocks, N of M and filters: what is kept, counted by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj


def matrix(rows, columns, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(rows, columns)), jnp.float32)


# Few shapes, with and without ragged edges: each is compiled anew.
@given(st.sampled_from([(1, 1, 2, 3), (12, 8, 4, 2), (13, 7, 4, 3)]), st.floats(0, 1),
       st.sampled_from(["l1", "l2", "max"]), st.integers(0, 99))
def test_blocks_are_zero_or_whole(sizes, sparsity, score, seed):
  rows, columns, height, width = sizes
  w = matrix(rows, columns, seed)
  pruned = cj.prune.block({"w": w}, sparsity, block=(height, width), score=score)
  mask = np.asarray(pruned["w"].mask)
  blocks = [mask[i:i + height, j:j + width] for i in range(0, rows, height)
            for j in range(0, columns, width)]
  assert all(b.all() or not b.any() for b in blocks)
  kept = sum(b.all() for b in blocks)
  assert kept == len(blocks) - np.round(np.float32(sparsity) * np.float32(len(blocks)))
  scores = {"l1": np.abs, "l2": np.square, "max": np.abs}[score](np.asarray(w))
  total = [f.max() if score == "max" else f.sum() for f in (
      scores[i:i + height, j:j + width] for i in range(0, rows, height)
      for j in range(0, columns, width))]
  if 0 < kept < len(blocks):
    dropped = [t for t, b in zip(total, blocks, strict=True) if not b.any()]
    assert max(dropped) <= min(t for t, b in zip(total, blocks, strict=True) if b.all()) * 1.00001


def test_blocks_of_a_convolution_tile_its_matrix_and_only_add_up():
  w = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 4, 8)), jnp.float32)
  params, before = {"w": w}, None
  for sparsity in (0.25, 0.5, 0.4):
    params = cj.prune.block(params, sparsity, block=(6, 4))
    mask = np.asarray(params["w"].mask).reshape(36, 8)
    assert all(mask[i:i + 6, j:j + 4].all() or not mask[i:i + 6, j:j + 4].any()
               for i in range(0, 36, 6) for j in (0, 4))
    assert before is None or (mask <= before).all()
    before = mask


@given(st.integers(0, 4), st.sampled_from([(1, 1), (3, 5)]), st.integers(0, 99))
def test_n_of_m_keeps_the_n_largest(n, sizes, seed):
  groups, columns = sizes
  w = np.asarray(matrix(4 * groups, columns, seed))
  mask = np.asarray(jax.jit(lambda n: cj.prune.n_m({"w": jnp.asarray(w)}, n, 4))(n)["w"].mask)
  for column in range(columns):
    for g in range(groups):
      part, kept = (a[4 * g:4 * g + 4, column] for a in (np.abs(w), mask))
      assert kept.sum() == n
      if 0 < n < 4:
        assert part[kept].min() >= part[~kept].max()


def test_filters_go_whole():
  params = cj.prune.filters({"w": jnp.asarray([[[1.0, 5, 3, 2]], [[1.0, 5, 3, 2]]])}, 0.5)
  assert np.asarray(params["w"].mask).all((0, 1)).tolist() == [False, True, True, False]
  rows = cj.prune.filters({"w": jnp.array([[1.0, 1], [3, 3]])}, 0.5, axis=0)["w"]
  assert rows.mask.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("call,message", [
    (lambda w: cj.prune.n_m(w, 3, 2), "n=3: must be from 0 to 2"),
    (lambda w: cj.prune.n_m(w, 2, 5), r"w: m=5: must divide axis -2 of a \(4, 4\)"),
    (lambda w: cj.prune.block(w, 0.5, block=(0, 4)), r"block=\(0, 4\): must be two whole"),
    (lambda w: cj.prune.block(w, 0.5, block=(2.0, 2)), r"block=\(2.0, 2\): must be two whole"),
    (lambda w: cj.prune.n_m(w, 1, 2.5), "m=2.5: must be a whole number from 1"),
    (lambda w: cj.prune.block(w, 0.5, score="l3"), "score='l3': must be one of l1, l2, max"),
    (lambda w: cj.prune.block(w, 2.0), "sparsity=2.0: must be from 0 to 1"),
    (lambda w: cj.prune.filters(w, 0.5, axis=3), "w: axis=3: must be from -2 to 1"),
    (lambda w: cj.prune.filters(w, 0.5, where="zz"), "where='zz' matches no"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.eye(4)})


def test_empty_weights_pass_through_whole():
  empty = {"w": jnp.zeros((4, 0))}
  assert cj.prune.n_m(empty, 2, 4)["w"].shape == (4, 0)
  assert cj.prune.filters({"w": jnp.zeros((0, 4))}, 0.5, score="max")["w"].shape == (0, 4)


def test_a_part_of_a_weight_cannot_be_kept():
  with pytest.raises(ValueError, match="n=1.5: must be one whole number from 0 to 4"):
    cj.prune.n_m({"w": jnp.ones((4, 4))}, 1.5, 4)

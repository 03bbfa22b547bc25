"""Tucker-2 and spatial SVD: exact at full rank, best at others, as convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj

RNG = np.random.default_rng(0)
W = jnp.asarray(RNG.normal(size=(3, 5, 4, 6)), jnp.float32)


def test_tucker2_is_exact_at_full_rank_and_orthogonal_below():
  full = cj.factorize.tucker2({"w": W}, rank=(4, 6))["w"]
  np.testing.assert_allclose(full.dense(), W, atol=1e-5)
  part = cj.factorize.tucker2({"w": W}, rank=(2, 3))["w"]
  np.testing.assert_allclose(part.u.T @ part.u, np.eye(2), atol=1e-5)
  np.testing.assert_allclose(part.v @ part.v.T, np.eye(3), atol=1e-5)
  # De Lathauwer et al. 2000: the error is at most what both unfoldings cut off.
  cut = sum((np.linalg.svd(np.moveaxis(np.asarray(W), axis, 0).reshape(W.shape[axis], -1),
                           compute_uv=False)[r:]**2).sum() for axis, r in ((2, 2), (3, 3)))
  assert float(((part.dense() - W)**2).sum()) <= cut * (1 + 1e-5)


def test_tucker2_finds_the_ranks_of_a_kernel_that_has_them():
  parts = [jnp.asarray(RNG.normal(size=shape)) for shape in ((8, 2), (3, 3, 2, 3), (3, 9))]
  made = cj.Tucker2(*parts).dense()
  leaf = cj.factorize.tucker2({"w": made}, energy=0.999999)["w"]
  assert leaf.ranks == (2, 3)
  np.testing.assert_allclose(leaf.dense(), made, atol=1e-3)


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_spatial_error_is_the_tail_of_the_singular_values(rank):
  leaf = cj.factorize.spatial({"w": W}, rank=rank)["w"]
  matrix = np.asarray(W).transpose(0, 2, 1, 3).reshape(12, 30)
  tail = (np.linalg.svd(matrix, compute_uv=False)[rank:]**2).sum()
  assert float(((leaf.dense() - W)**2).sum()) == pytest.approx(tail, abs=1e-3)


@pytest.mark.parametrize("strides,padding,dilation", [
    ((1, 1), "SAME", (1, 1)), ((2, 1), "VALID", (1, 1)), ((1, 2), [(2, 0), (1, 3)], (2, 1))])
@pytest.mark.parametrize("kind", ["tucker2", "spatial"])
def test_factors_run_as_the_convolution(kind, strides, padding, dilation):
  x = jnp.asarray(RNG.normal(size=(2, 9, 11, 4)), jnp.float32)
  fn = lambda p, x: jax.lax.conv_general_dilated(
      x, p["w"], strides, padding, rhs_dilation=dilation,
      dimension_numbers=("NHWC", "HWIO", "NHWC"))
  arguments = {"rank": (3, 5)} if kind == "tucker2" else {"rank": 7}
  p = getattr(cj.factorize, kind)({"w": W}, **arguments)
  np.testing.assert_allclose(cj.lift(fn)(p, x), fn(cj.dense(p), x), atol=2e-4)
  both = [jax.grad(lambda p, f=f: (f(p, x)**2).sum())(p) for f in
          (cj.lift(fn), lambda p, x: fn(cj.dense(p), x))]
  for a, b in zip(*map(jax.tree.leaves, both), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * np.abs(b).max())


@pytest.mark.parametrize("out", ["NHWC", "NCHW", "HWNC"])
@pytest.mark.parametrize("make", [lambda p: cj.factorize.spatial(p, rank=7),
                                  lambda p: cj.factorize.tucker2(p, rank=(3, 5)),
                                  lambda p: cj.factorize.svd(p, rank=5, where="w")])
def test_the_result_may_have_another_layout_than_the_images(make, out):
  x = jnp.asarray(RNG.normal(size=(2, 4, 6, 7)), jnp.float32)
  fn = lambda p, x: jax.lax.conv_general_dilated(x, p["w"], (1, 2), "SAME",
                                                 dimension_numbers=("NCHW", "HWIO", out))
  p = make({"w": W})
  np.testing.assert_allclose(cj.lift(fn)(p, x), fn(cj.dense(p), x), atol=2e-4)


def test_layouts_that_do_not_come_apart_have_no_rule():
  fn = lambda p, x: jax.lax.conv_general_dilated(x, p["w"], (1, 1), "SAME",
                                                 dimension_numbers=("NCHW", "OIHW", "NCHW"))
  p = cj.factorize.spatial({"w": W}, rank=2)
  with pytest.raises(cj.NoRule, match="channels last in its kernel"):
    cj.lift(fn)(p, jnp.ones((1, 5, 6, 6)))


@pytest.mark.parametrize("call,message", [
    (lambda p: cj.factorize.tucker2(p, rank=(5, 1)), r"w: rank\[0\]=5: .* from 1 to 4"),
    (lambda p: cj.factorize.tucker2(p, rank=(1, 2, 3)), "must be two whole numbers"),
    (lambda p: cj.factorize.tucker2(p), "rank=None, energy=None: give exactly one"),
    (lambda p: cj.factorize.spatial(p, rank=13), "w: rank=13: .* from 1 to 12"),
    (lambda p: cj.factorize.spatial(p, energy=2.0), "energy=2.0: must be above 0, up to 1"),
    (lambda p: cj.factorize.spatial({"w": p["w"] / 0}, rank=1), "w: holds NaN or infinity"),
    (lambda p: cj.factorize.spatial({"m": jnp.eye(3)}, rank=1), "none of these is a kernel"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": W})

"""Float formats against numpy's own rounding; groups; their files."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from compress_jax.quantize.floats import FORMATS


@pytest.mark.parametrize("to", FORMATS)
def test_values_are_the_formats_own(to):
  w = np.random.default_rng(0).normal(0, 5, (12, 6)).astype(np.float32)
  p = cj.quantize.cast({"w": jnp.asarray(w)}, to)
  scale = 1.0
  if jnp.finfo(to).bits == 8:
    scale = np.asarray(p["w"].scale)
    largest = float(ml_dtypes.finfo(to).max)
    np.testing.assert_allclose(scale[0], np.abs(w).max(0) / largest, rtol=1e-6)
  expected = (w / scale).astype(jnp.dtype(to)).astype(np.float32) * scale
  np.testing.assert_array_equal(cj.dense(p)["w"], expected)
  assert cj.freeze(p)["w"].values.dtype == jnp.dtype(to)
  bits = jnp.finfo(to).bits
  assert cj.size(p).packed == w.size * bits // 8 + (6 * 4 if bits == 8 else 0)


def test_gradient_is_straight_through_in_full_precision():
  w = jnp.array([[1.0001, -3.3, 1e6]])
  p = cj.quantize.cast({"w": w}, "float16")
  trainable, rest = cj.partition(p)
  weights = jnp.array([[1.00001, 2.0, 3.0]])
  grads = jax.grad(lambda t: (cj.dense(cj.merge(t, rest))["w"] * weights).sum())(trainable)
  # Nothing where the value left the format's range.
  np.testing.assert_array_equal(grads["w"].value, weights.at[0, 2].set(0))


@given(st.sampled_from([1, 2, 4]), st.integers(2, 8), st.booleans(), st.integers(0, 30))
def test_a_group_is_quantized_as_if_it_were_alone(group, bits, symmetric, seed):
  w = jnp.asarray(np.random.default_rng(seed).normal(size=(2, 8, 3)), jnp.float32)
  together = cj.quantize.affine({"w": w}, bits, symmetric=symmetric, group=group)["w"]
  assert together.scale.shape == (1, 8 // group, 3)
  for i in range(0, 8, group):
    alone = cj.quantize.affine({"w": w[:, i:i + group]}, bits, symmetric=symmetric)["w"]
    np.testing.assert_array_equal(together.dense()[:, i:i + group], alone.dense())


@pytest.mark.parametrize("call,message", [
    (lambda w: cj.quantize.cast(w, "float64"), "to='float64': must be one of float16, bfloat16"),
    (lambda w: cj.quantize.cast(w, "float8_e5m2", axis=5), "w: axis=5: must be from -2 to 1"),
    (lambda w: cj.quantize.cast({"w": w["w"] / 0}, "float16"), "w: holds NaN or infinity"),
    (lambda w: cj.quantize.affine(w, 8, group=3), r"w: group=3: must divide axis -2 of a \(4, 4\)"),
    (lambda w: cj.quantize.affine(w, 8, axis=0, group=2),
     "w: group=2: must be None where axis=0 gives every index of axis -2"),
    (lambda w: cj.quantize.learned(w, 8, axis=(-2, -1), group=2), "w: group=2: must be None where"),
    (lambda w: cj.quantize.dynamic(w), "params: no leaf is quantized"),
    (lambda w: cj.quantize.dynamic(cj.quantize.affine(w, 8), bits=1), "bits=1: must be from 2"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.eye(4)})


def test_the_largest_weight_of_a_channel_trains():
  w = jax.random.normal(jax.random.key(0), (64, 1000))
  params = cj.quantize.cast({"w": w}, "float8_e4m3fn")
  grad = jax.grad(lambda p: cj.dense(p)["w"].sum(), allow_int=True)(params)["w"].value
  assert (grad != 0).all()


def test_a_dynamic_grid_takes_a_batch_of_no_rows():
  apply = lambda params, x: x @ params["w"]
  params = cj.quantize.dynamic(cj.quantize.affine({"w": jnp.eye(4)}, 8))
  assert cj.lift(apply)(params, jnp.zeros((0, 4))).shape == (0, 4)


def test_scales_follow_weights_that_have_grown():
  w = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(8, 4)), jnp.float32)}
  p = cj.quantize.cast(cj.prune.magnitude(w, 0.5), "float8_e4m3fn")
  grown = cj.prune.rewind(p, {"w": 10 * w["w"]})
  fresh = cj.quantize.cast(cj.prune.magnitude({"w": 10 * w["w"]}, 0.5), "float8_e4m3fn")
  np.testing.assert_array_equal(cj.quantize.refit(grown)["w"].dense(), fresh["w"].dense())

"""Products whose operands differ in dtype, and weights that the program converts on the way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import compress_jax as cj

KEY = jax.random.key(0)
W = jax.random.normal(KEY, (8, 6))
INPUTS = {
    "int8": jnp.array([[0, -55, 127, 7, -20, 9, 1, 3]], jnp.int8),
    "uint8": jnp.array([[0, 255, 128, 7, 200, 9, 1, 3]], jnp.uint8),
    "int32": jnp.array([[0, 255, 128, 7, 20_000, 9, 1, 3]]),
    "bool": jnp.array([[True, False, True, True, False, True, True, False]]),
    "bfloat16": jax.random.normal(KEY, (3, 8), jnp.bfloat16),
    "float16": jax.random.normal(KEY, (3, 8), jnp.float16)}
LEAVES = {
    "masked": lambda p: cj.prune.magnitude(p, 0.5),
    "low rank": lambda p: cj.factorize.svd(p, rank=2),
    "bfloat16": lambda p: cj.quantize.cast(p, "bfloat16"),
    "float8": lambda p: cj.quantize.cast(p, "float8_e4m3fn"),
    "8 bits": lambda p: cj.quantize.affine(p, 8),
    "8 bits, zero points": lambda p: cj.quantize.affine(p, 8, symmetric=False),
    "8 bits, one scale per input": lambda p: cj.quantize.affine(p, 8, axis=0),
    "16 bits": lambda p: cj.quantize.affine(p, 16),
    "16 bits, zero points": lambda p: cj.quantize.affine({"w": abs(p["w"])}, 16, symmetric=False),
    "blocks": lambda p: cj.prune.block(p, 0.5, block=(4, 2))}


def product(params, x):
  # Not promoted: the program multiplies integers by floats.
  return x @ params["w"]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("dtype", INPUTS)
@pytest.mark.parametrize("leaf", LEAVES)
def test_inputs_of_another_dtype_are_not_rounded_to_it_nor_are_weights(leaf, dtype):
  params, x = LEAVES[leaf]({"w": W}), INPUTS[dtype]
  for deployed in (params, cj.freeze(params)):
    found, wanted = cj.lift(product)(deployed, x), product(cj.dense(deployed), x)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6 * float(abs(wanted).max()))


@pytest.mark.parametrize("leaf", ["8 bits", "16 bits, zero points", "8 bits, one scale per input"])
def test_a_half_precision_model_keeps_its_range_and_its_small_scales(leaf):
  halves = {"w": (1e-3 * W).astype(jnp.float16)}
  params, x = LEAVES[leaf](halves), INPUTS["float16"]
  found, wanted = cj.lift(product)(params, x), product(cj.dense(params), x)
  assert found.dtype == jnp.float16
  # Two roundings to half precision: of the result, and of the dense weights.
  np.testing.assert_allclose(found, wanted, rtol=3e-3, atol=3e-6)


def test_a_model_in_8_bit_floats_multiplies_by_the_steps_that_there_are():
  # Steps have seven bits, those floats four.
  narrow, x = W.astype(jnp.float8_e4m3fn), INPUTS["float16"].astype(jnp.float8_e4m3fn)
  fn = lambda params, x: lax.dot(x, params["w"], preferred_element_type=jnp.float32)
  params = cj.quantize.affine({"w": narrow}, 8)
  exact = x.astype(jnp.float32) @ (params["w"].steps() * params["w"].scale)
  for deployed in (params, cj.freeze(params)):
    np.testing.assert_allclose(cj.lift(fn)(deployed, x), exact, rtol=1e-5, atol=1e-5)
  assert cj.factorize.svd({"w": narrow}, rank=2)["w"].u.dtype == jnp.float8_e4m3fn


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("calibrated", [False, True])
def test_outputs_may_share_a_scale_in_groups(symmetric, calibrated):
  fn = lambda params, x: x @ params["w"].T
  params, x = cj.quantize.affine({"w": W}, 8, axis=None, group=2, symmetric=symmetric), W[:, :6]
  if calibrated:
    params = cj.quantize.calibrate(fn, params, [x])
  found = cj.lift(fn)(params, x)
  np.testing.assert_array_equal(found, cj.lift(fn)(cj.freeze(params), x))
  wanted = fn(cj.dense(params), x)
  np.testing.assert_allclose(found, wanted, atol=2e-2 * float(abs(wanted).max()) if calibrated
                             else 1e-5)


@pytest.mark.parametrize("factorize", [
    functools.partial(cj.factorize.svd, rank=2, where="w"),
    functools.partial(cj.factorize.tucker2, rank=(2, 2)),
    functools.partial(cj.factorize.spatial, rank=2)])
def test_half_precision_factors_of_a_convolution_accumulate_in_float32(factorize):
  def fn(params, x):
    return lax.conv_general_dilated(
        x, params["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.float32, precision=lax.Precision.HIGHEST)

  kernel = jax.random.normal(KEY, (3, 3, 4, 4), jnp.bfloat16)
  x = jax.random.normal(KEY, (1, 5, 5, 4), jnp.bfloat16)
  params = factorize({"w": kernel})
  found, wanted = cj.lift(fn)(params, x), fn(cj.dense(params), x)
  assert found.dtype == wanted.dtype == jnp.float32
  np.testing.assert_allclose(found, wanted, atol=0.05 * float(abs(wanted).max()))
  program = str(jax.make_jaxpr(cj.lift(fn))(params, x))
  assert "precision=None" not in program


@pytest.mark.parametrize("leaf", [lambda p: p, LEAVES["masked"]])
def test_a_weight_that_was_narrowed_stays_rounded(leaf):
  fn = lambda params, x: x @ params["w"].astype(jnp.bfloat16).astype(jnp.float32)
  params, x = leaf({"w": W}), INPUTS["float16"].astype(jnp.float32)
  out, _ = cj.capture(fn)(params, x)
  np.testing.assert_array_equal(out, fn(cj.dense(params), x))


def test_an_input_that_is_no_number_shows_where_its_own_range_is_the_grid():
  params = cj.quantize.dynamic(cj.quantize.affine({"w": W}, 8))
  x = W[:, :1].T.at[0, 0].set(jnp.nan)
  for deployed in (params, cj.freeze(params)):
    assert jnp.isnan(cj.lift(product)(deployed, x)).all()


def test_complex_operands_keep_their_imaginary_part_or_are_refused_by_name():
  w = {"w": jnp.asarray(np.random.default_rng(0).normal(size=(6, 8)), jnp.float32)}
  x = jnp.full((2, 6), 1 + 2j, jnp.complex64)
  apply = lambda p, x: x @ p["w"]
  np.testing.assert_allclose(cj.capture(apply)(w, x)[0], apply(w, x), rtol=1e-6)
  p = cj.quantize.affine(w, 8)
  with pytest.raises(cj.NoRule, match="w.*operand of complex64"):
    cj.lift(apply)(p, x)
  np.testing.assert_allclose(cj.lift(apply, densify=True)(p, x), apply(cj.dense(p), x), rtol=1e-6)

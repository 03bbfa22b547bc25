"""Grids against ONNX's QuantizeLinear, calibration, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import compress_jax as cj
from tests.transforms import assert_own_buffers


def onnx_quantize(x, scale, zero_point, low, high):
  """ONNX QuantizeLinear: saturate(round half to even(x / scale) + zero_point)."""
  return np.clip(np.rint(x / scale) + zero_point, low, high)


@given(st.integers(2, 8), st.booleans(), st.integers(0, 1000))
def test_integers_are_those_of_quantize_linear(bits, symmetric, seed):
  x = np.random.default_rng(seed).normal(0.3, 1, (9, 4)).astype(np.float32)
  leaf = cj.freeze(cj.quantize.affine({"w": jnp.asarray(x)}, bits, symmetric=symmetric))["w"]
  half = 2**(bits - 1)
  if symmetric:
    scale, zero, low = np.abs(x).max(0) / np.float32(half - 1), 0, 1 - half
  else:
    lowest, highest = np.minimum(x.min(0), 0), np.maximum(x.max(0), 0)
    scale = (highest - lowest) / np.float32(2**bits - 1)
    zero, low = np.clip(-half - np.rint(lowest / scale), -half, half - 1), -half
  np.testing.assert_allclose(leaf.scale[0], scale, rtol=1e-6)
  expected = onnx_quantize(x, np.asarray(leaf.scale), zero, low, half - 1)
  np.testing.assert_array_equal(leaf.integers, expected)
  assert leaf.integers.dtype == jnp.int8


@given(st.integers(2, 8), st.integers(0, 1000))
def test_quantizing_twice_changes_nothing(bits, seed):
  x = {"w": jnp.asarray(np.random.default_rng(seed).normal(size=(6, 3)), jnp.float32)}
  once = cj.dense(cj.quantize.affine(x, bits))
  twice = cj.dense(cj.quantize.affine(once, bits))
  np.testing.assert_allclose(twice["w"], once["w"], rtol=1e-6)


def test_gradient_is_straight_through_inside_the_grid_and_none_outside():
  leaf = cj.FakeQuant(jnp.array([0.26, -0.4, 12.7, 13.0, -99.0]), jnp.float32(0.1), None,
                      jnp.int32(8))
  grads = jax.grad(lambda leaf: leaf.dense().sum(), allow_int=True)(leaf)
  np.testing.assert_allclose(grads.value, [1, 1, 1, 0, 0], rtol=1e-6)
  # LSQ (Esser et al. 2020), equation 3: round(v/s) - v/s inside, the limit outside.
  np.testing.assert_allclose(float(grads.scale), (3 - 2.6) + (-4 + 4) + 0 + 127 - 127, atol=1e-4)


def test_zeros_stay_zero_on_every_grid():
  w = jnp.array([[0.0, 3.0, 0.0], [5.0, 4.0, 0.0]])
  for symmetric in (True, False):
    dense = cj.dense(cj.quantize.affine({"w": w}, 3, symmetric=symmetric))["w"]
    assert (np.asarray(dense)[np.asarray(w) == 0] == 0).all()


def test_calibration_covers_what_was_seen():
  apply = lambda p, x: jax.nn.relu(x @ p["a"]) @ p["b"]
  p = cj.quantize.affine({"a": jnp.eye(3), "b": jnp.eye(3)}, 8)
  p = cj.quantize.calibrate(apply, p, [jnp.array([[-1.0, 0, 2]]), jnp.array([[0.0, 0, 3]])])
  low, high = (float(p["a"].input.scale * (q - p["a"].input.zero_point)) for q in (-128, 127))
  assert low == pytest.approx(-1, abs=0.02) and high == pytest.approx(3, abs=0.02)
  assert float(p["b"].input.scale) == pytest.approx(3 / 255)
  assert int(p["b"].input.zero_point) == -128


@pytest.mark.parametrize("bits", [8, jnp.int32(8)])
def test_no_two_grids_share_a_buffer(bits):
  apply = lambda p, x: x @ p["a"] @ p["b"]
  p = cj.quantize.affine({"a": jnp.eye(3), "b": jnp.eye(3) + 1}, bits)
  for with_inputs in (cj.quantize.calibrate(apply, p, [jnp.ones((1, 3))], bits=bits),
                      cj.quantize.calibrate(apply, p, [jnp.ones((1, 3))], bits=bits, learned=True),
                      cj.quantize.dynamic(p, bits=bits)):
    assert_own_buffers(with_inputs)
    assert_own_buffers(cj.freeze(with_inputs))
    assert_own_buffers(cj.quantize.refit(with_inputs))


@pytest.mark.parametrize("call,message", [
    (lambda w: cj.quantize.affine(w, 0), "bits=0: must be from 2 to 16"),
    (lambda w: cj.quantize.affine(w, 17), "bits=17: must be from 2 to 16"),
    (lambda w: cj.quantize.affine(w, 8, axis=2), "w: axis=2: must be from -2 to 1"),
    (lambda w: cj.quantize.affine(w, 8, where="b$"), "where='b\\$' matches no"),
    (lambda w: cj.quantize.affine(w, 8, where=""), "where='': an empty pattern; must be '.'"),
    (lambda w: cj.quantize.calibrate(lambda p, x: x @ p["w"], cj.quantize.affine(w, 8),
                                     [jnp.full((1, 2), jnp.inf)]), "w: batches put NaN or inf"),
    (lambda w: cj.quantize.affine({}, 8), "must match one of: an empty tree"),
    (lambda w: cj.quantize.affine({"w": w["w"] / 0}, 8), "w: holds NaN or infinity"),
    (lambda w: cj.quantize.calibrate(lambda p, x: x, cj.quantize.affine(w, 8), []), "batches"),
    (lambda w: cj.quantize.calibrate(lambda p, x: x @ p["v"], {
        **cj.quantize.affine(w, 8), "v": cj.quantize.affine(w, 8)["w"]}, [jnp.ones((1, 2))]),
     "w: no product with this quantized leaf was seen"),
    (lambda w: cj.quantize.calibrate(lambda p, x: x, w, [], bits=17),
     "bits=17: must be from 2 to 16"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.eye(2)})


@pytest.mark.parametrize("bits", [4.5, [2, 8]])
def test_bits_are_one_whole_number(bits):
  with pytest.raises(ValueError, match="must be one (whole )?number from 2 to 16"):
    cj.quantize.affine({"w": jnp.eye(2)}, jnp.asarray(bits))


# As many layers as outputs: bits that lay over the wrong axis would not show by their shape.
STACK = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 3)), jnp.float32)


@pytest.mark.parametrize("quantize", [
    cj.quantize.affine, cj.quantize.learned,
    lambda p, bits: cj.quantize.affine(p, bits, symmetric=False)])
def test_a_stack_that_vmap_made_stands_for_what_each_of_its_leaves_does(quantize):
  per_layer = jax.vmap(lambda w, bits: quantize({"w": w}, bits))
  mixed = per_layer(STACK, jnp.array([2, 4, 8]))
  np.testing.assert_array_equal(cj.dense(mixed)["w"], jax.vmap(cj.dense)(mixed)["w"])
  grads, each = jax.grad(lambda p: (cj.dense(p)["w"]**3).sum(), allow_int=True)(mixed), []
  for i in range(3):
    one = jax.tree.map(lambda x: x[i], mixed)  # noqa: B023
    each.append(jax.grad(lambda p: (cj.dense(p)["w"]**3).sum(), allow_int=True)(one)["w"].scale)
  np.testing.assert_allclose(grads["w"].scale, jnp.stack(each), rtol=1e-5)
  with pytest.raises(ValueError, match=r"^w: freeze: bits of \[2, 4, 8\] in one stack; must be"):
    cj.freeze(mixed)
  refitted = cj.quantize.refit(mixed)["w"]
  np.testing.assert_allclose(refitted.scale, mixed["w"].scale, rtol=1e-6)


def test_a_stack_that_vmap_made_with_the_same_bits_is_deployed_and_looped_over():
  apply = lambda p, x: jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, p["w"])[0]
  square = {"w": STACK[:, :3]}
  params = jax.vmap(lambda p: cj.quantize.affine(p, 8))(square)
  frozen, x = cj.freeze(params), jnp.ones((2, 3))
  np.testing.assert_array_equal(cj.dense(frozen)["w"], cj.dense(params)["w"])
  whole = cj.freeze(cj.quantize.affine(square, 8, axis=(0, 2)))
  np.testing.assert_array_equal(frozen["w"].integers, whole["w"].integers)
  assert cj.size(params) == cj.size(whole)
  assert cj.metrics.operations(apply, params, x) == cj.metrics.operations(apply, frozen, x)
  for p in (params, frozen, jax.vmap(cj.quantize.dynamic)(params)):
    np.testing.assert_allclose(cj.lift(apply)(p, x), apply(cj.dense(params), x), atol=0.05)


def test_a_stack_that_is_not_looped_over_keeps_what_belongs_to_each_layer():
  params = jax.vmap(lambda w, bits: cj.quantize.affine({"w": w}, bits))(STACK,
                                                                        jnp.array([2, 4, 8]))
  x = jnp.ones((2, 5))
  for fn in (lambda p, x: x @ p["w"][1], lambda p, x: x @ list(p["w"])[1],
             lambda p, x: x @ p["w"][::-1][1], lambda p, x: x @ p["w"][x[0, 0].astype(int)]):
    np.testing.assert_allclose(cj.lift(fn)(params, x), x @ cj.dense(params)["w"][1], atol=1e-5)
  product = lambda p, x: jnp.einsum("bi,eio->ebo", x, p["w"])
  np.testing.assert_allclose(cj.lift(product)(params, x), product(cj.dense(params), x), atol=1e-5)
  with pytest.raises(ValueError, match=r"input: a stack of \(3,\) grids; a loop, an"):
    cj.lift(product)(jax.vmap(cj.quantize.dynamic)(params), x)


@pytest.mark.parametrize("bits", [2, 3, 8, 16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("w", [[2e38, -2e38], [1e38, 0.6e38], [-1e38, 0.0], [1e-30, -1e-30]])
def test_the_largest_and_smallest_weights_come_back_within_half_a_step(w, bits, symmetric):
  w = np.array(w, np.float32)[:, None]
  if bits == 2 and np.abs(w).max() > 1.3e38:
    with pytest.raises(ValueError, match=r"w: holds weights of up to 2e\+38; at 2 bits they must"):
      cj.quantize.affine({"w": jnp.asarray(w)}, bits, symmetric=symmetric)
    return
  leaf = cj.quantize.affine({"w": jnp.asarray(w)}, bits, symmetric=symmetric)["w"]
  step = np.float64(leaf.scale[0, 0])
  for found in (leaf.dense(), leaf.freeze().dense()):
    assert np.isfinite(found).all()
    assert (np.abs(np.float64(found) - w) <= (0.501 + (not symmetric)) * step).all()


def test_weights_that_are_not_numbers_are_never_frozen_to_some():
  trainable, rest = cj.partition(cj.quantize.affine({"w": jnp.eye(4)}, 8))
  p = cj.merge(jax.tree.map(lambda x: x * jnp.nan, trainable), rest)
  with pytest.raises(ValueError, match="^w: FakeQuant.value: holds NaN; must be numbers to be"):
    cj.freeze(p)
  nested = {"head": {"kernel": p["w"]}, "other": jnp.ones(2)}
  for measure in (cj.freeze, cj.size, cj.artifact.encode):
    with pytest.raises(ValueError, match="^head/kernel: FakeQuant.value: holds NaN"):
      measure(nested)
  stacked = {"head": jax.vmap(lambda _: cj.Clustered(jnp.ones(2), jnp.zeros((2, 2), jnp.uint8)))(
      jnp.arange(3))}
  with pytest.raises(ValueError, match=r"^head: codebook has shape \(3, 2\): a stacked leaf"):
    cj.dense(stacked)

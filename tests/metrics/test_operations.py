"""Multiply-adds by hand, bit-operations, sparsity by layer, latency."""

import jax
import jax.numpy as jnp
import pytest

import compress_jax as cj


def counts(p, linen, **kwargs):
  _, apply, x = linen
  layers = cj.metrics.operations(apply, p, x)
  return {path.split("/")[1]: layer.multiply_adds for path, layer in layers.items()}


def test_multiply_adds_are_those_counted_by_hand(linen):
  # 4 images of 8 x 8 x 3: 3 x 3 to 6 channels; 3 x 3 to 8, stride 2, 3 x 3 positions; 72-12-10.
  expected = {"Conv_0": 4 * 64 * 27 * 6, "Conv_1": 4 * 9 * 54 * 8, "Dense_0": 4 * 72 * 12,
              "Dense_1": 4 * 12 * 10}
  params = linen[0]
  for p in (params, cj.prune.magnitude(params, 0.5), cj.quantize.affine(params, 4),
            cj.freeze(cj.quantize.affine(params, 4)), cj.quantize.cast(params, "bfloat16"),
            cj.freeze(cj.prune.block(params, 0.5, block=(5, 4)))):
    assert counts(p, linen) == expected


def test_factors_count_by_themselves(linen):
  p = cj.factorize.svd(linen[0], rank=2)
  layers = cj.metrics.operations(linen[1], p, linen[2])
  assert layers["params/Dense_0/kernel/u"].multiply_adds == 4 * 72 * 2
  assert layers["params/Dense_0/kernel/v"].multiply_adds == 4 * 2 * 12
  assert "params/Dense_0/kernel" not in layers


@pytest.mark.parametrize("sparsity,bits,input_bits", [(0.0, 8, 8), (0.5, 4, 8), (0.9, 2, 16)])
def test_bit_operations_multiply_density_and_bits(sparsity, bits, input_bits, linen):
  params, apply, x = linen
  p = cj.quantize.affine(cj.prune.magnitude(params, sparsity, scope="layer"), bits)
  p = cj.quantize.calibrate(apply, p, [x], bits=input_bits)
  total = cj.metrics.total(cj.metrics.operations(apply, p, x))
  layers = cj.metrics.sparsity(p)
  weighted = {path: layer.multiply_adds * (1 - layers[path]) for path, layer in
              cj.metrics.operations(apply, p, x).items()}
  assert total.nonzero_multiply_adds == pytest.approx(sum(weighted.values()), abs=4)
  assert total.bit_operations == total.nonzero_multiply_adds * bits * input_bits


def test_every_step_of_a_scan_counts():
  fn = lambda p, x: jax.lax.scan(lambda c, _: (c @ p["w"], None), x, None, length=5)[0]
  layers = cj.metrics.operations(fn, {"w": jnp.eye(3)}, jax.ShapeDtypeStruct((2, 3), jnp.float32))
  assert layers["w"].multiply_adds == 5 * 2 * 3 * 3
  assert layers["w"].nonzero_multiply_adds == 5 * 2 * 3


def test_a_transposed_convolution_multiplies_pixels_and_not_the_zeros_between_them():
  fn = lambda p, x: jax.lax.conv_transpose(x, p["w"], (2, 2), "SAME")
  params, x = {"w": jnp.ones((4, 4, 3, 5))}, jnp.ones((1, 8, 8, 3))
  # Every pixel meets the whole kernel, at borders too.
  for p in (params, cj.quantize.affine(params, 8)):
    assert cj.metrics.operations(fn, p, x)["w"].multiply_adds == 8 * 8 * 4 * 4 * 3 * 5


def test_sparsity_is_by_layer_and_by_factor():
  p = {"a": jnp.array([[0.0, 1.0]]), "b": cj.LowRank(jnp.zeros((2, 1)), jnp.ones((1, 2))),
       "bias": jnp.zeros(3)}
  assert cj.metrics.sparsity(p) == {"a": 0.5, "b/u": 1.0, "b/v": 0.0}


def test_latency_times_batch_1_and_n():
  calls = []

  def slow(p, x):
    jax.debug.callback(lambda: calls.append(1))
    return x @ p

  times = cj.metrics.latency(slow, jnp.eye(3), jnp.ones((4, 3)), calls=7, warmup=2)
  assert list(times) == [1, 4] and len(calls) == 2 * (7 + 2)
  for t in times.values():
    assert 0 < t.fastest <= t.median <= t.p95 and t.calls == 7


@pytest.mark.parametrize("arguments,message", [
    ({"batches": [0]}, r"batches=\[0\]: must be from 1 to 4"), ({"batches": [5]}, "from 1 to 4"),
    ({"calls": 0}, "calls=0: must be a whole number from 1"),
    ({"warmup": 1.5}, "warmup=1.5: must be a whole number from 1")])
def test_bad_input_names_the_argument(arguments, message):
  with pytest.raises(ValueError, match=message):
    cj.metrics.latency(lambda p, x: x, None, jnp.ones((4, 3)), **arguments)

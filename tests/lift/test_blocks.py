"""Frozen blocks: what runs on them, what stays masked, what later transforms see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import compress_jax as cj

W = jax.random.normal(jax.random.key(0), (16, 16))
X = jax.random.normal(jax.random.key(1), (5, 16))
blocks = functools.partial(cj.prune.block, block=(8, 8))
FORWARD, TIED = (lambda p, x: x @ p["w"]), (lambda p, x: x @ p["w"].T)


@pytest.mark.parametrize("make", [
    lambda w: blocks({"w": w}, 0.5), lambda w: cj.quantize.affine(blocks({"w": w}, 0.5), 8),
    lambda w: blocks(cj.factorize.svd({"w": w}, rank=8), 0.5),
    lambda w: cj.prune.block({"w": w[:13, :11]}, 0.4, block=(4, 8))])
@pytest.mark.parametrize("fn", [FORWARD, TIED])
def test_deployed_blocks_run_both_ways_round(make, fn):
  p = make(W)
  frozen = cj.freeze(p)
  assert "BlockSparse" in str(jax.tree.structure(frozen))
  x = X[:, :p["w"].shape[0 if fn is FORWARD else 1]]
  np.testing.assert_allclose(cj.lift(fn)(frozen, x), fn(cj.dense(p), x), atol=1e-4)
  assert cj.lift(fn)(frozen, x[:0]).shape == fn(cj.dense(p), x[:0]).shape


def of_heads(x, w):
  return jnp.tanh(jnp.einsum("bi,ihd->bhd", x, w)).reshape(x.shape)


def attentions(p, x):
  return jax.lax.scan(lambda x, w: (of_heads(x, w), None), x, p["w"])[0]


def test_a_stack_that_cannot_be_told_from_a_kernel_says_how_to_run_it():
  # No wider than a window may be.
  p, x = blocks({"w": jax.random.normal(jax.random.key(3), (2, 8, 2, 4))}, 0.5), X[:, :8]
  frozen = cj.freeze(p)
  assert isinstance(frozen["w"], cj.BlockSparse)
  with pytest.raises(cj.NoRule, match=r"w: .*leave stacks of layers out of cj.prune.block by its"):
    cj.lift(attentions)(frozen, x)
  by_layer = {"w": [cj.freeze({"w": cj.Masked(v, m, (8, 8))})["w"]
                    for v, m in zip(p["w"].value, p["w"].mask, strict=True)]}
  unrolled = lambda p, x: functools.reduce(of_heads, p["w"], x)
  np.testing.assert_allclose(cj.lift(unrolled)(by_layer, x), attentions(cj.dense(p), x), atol=1e-5)


def test_leaves_that_blocks_do_not_suit_stay_masked():
  attention = jax.random.normal(jax.random.key(2), (16, 2, 8))
  fn = lambda p, x: jnp.einsum("bi,ihd->bhd", x, p["w"])
  depthwise = lambda p, x: jax.lax.conv_general_dilated(
      x, p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=16)
  stack = lambda p, x: jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), x, p["w"])[0]
  layers = jnp.ones((2, 32, 4, 8)) * jnp.arange(32)[:, None, None]
  for f, w, x in ((fn, attention, X), (stack, jnp.stack([W, W]), X),
                  (attentions, layers, jnp.ones((5, 32))),
                  (depthwise, jnp.ones((3, 3, 1, 16)), jnp.ones((1, 4, 4, 16)))):
    p = blocks({"w": w}, 0.3)
    np.testing.assert_allclose(cj.lift(f)(cj.freeze(p), x), f(cj.dense(p), x), atol=1e-5)


def test_inputs_of_frozen_blocks_are_quantized_too():
  frozen = cj.freeze(cj.quantize.affine(blocks({"w": W}, 0.5), 8))
  for p in (cj.quantize.calibrate(FORWARD, frozen, [X]), cj.quantize.dynamic(frozen)):
    assert p["w"].input is not None
    np.testing.assert_allclose(cj.lift(FORWARD)(p, X), X @ frozen["w"].dense(), atol=0.1)
  with pytest.raises(ValueError, match="w: a BlockSparse cannot have an input of more than 8 bits"):
    cj.quantize.dynamic(frozen, bits=16)


def test_later_transforms_see_through_frozen_blocks():
  frozen = cj.freeze(cj.quantize.affine(blocks({"w": W}, 0.5), 8))
  again = cj.quantize.affine(frozen, 2)
  assert [x.shape for x in jax.tree.leaves(cj.partition(again)[0])] == [(16, 16)]
  assert cj.count(cj.quantize.cluster(frozen, 4))[1] == cj.count(frozen)[1]


PRODUCTS = {
    "dot": ((16, 16), (5, 16), lambda p, x: lax.dot(
        x, p["w"], preferred_element_type=jnp.float32)),
    "convolution": ((1, 1, 16, 16), (5, 1, 1, 16), lambda p, x: lax.conv_general_dilated(
        x, p["w"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.float32))}


@pytest.mark.parametrize("quantize", [lambda p: p, lambda p: cj.quantize.affine(p, 8)])
@pytest.mark.parametrize("name", PRODUCTS)
def test_half_precision_operands_may_sum_to_what_half_precision_does_not_hold(name, quantize):
  shape, images, fn = PRODUCTS[name]
  w, x = ((100 * a).astype(jnp.float16) for a in (W.reshape(shape), X.reshape(images)))
  p = cj.freeze(quantize(blocks({"w": w}, 0.5)))
  assert isinstance(p["w"], cj.BlockSparse)
  found, wanted = cj.lift(fn)(p, x), fn(cj.dense(p), x)
  assert found.dtype == wanted.dtype == jnp.float32 and abs(wanted).max() > 65504
  # Steps of integers are not rounded to half precision, as the dense weights are.
  np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 * abs(wanted).max())


def test_integers_in_blocks_are_the_fake_quantized_model_to_the_bit():
  p = cj.quantize.calibrate(FORWARD, cj.quantize.affine(blocks({"w": W}, 0.5), 4), [X])
  np.testing.assert_array_equal(jax.jit(cj.lift(FORWARD))(p, X),
                                jax.jit(cj.lift(FORWARD))(cj.freeze(p), X))

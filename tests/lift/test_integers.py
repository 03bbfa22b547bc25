"""Integers against fake quantization: any bits, groups, dynamic inputs; nothing densified."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import compress_jax as cj
from tests.transforms import ALL


def both(p, apply, x):
  """Returns the results of the fake-quantized and the integer model."""
  run = jax.jit(cj.lift(apply))
  return run(p, x), run(cj.freeze(p), x)


SOME_BITS = [(4, 4), (8, 8), (16, 16), (4, 16), (16, 4)]
ALL_BITS = list(itertools.product((2, 4, 5, 8, 16), repeat=2))


@pytest.mark.parametrize("bits,input_bits", ALL_BITS if ALL else SOME_BITS)
def test_any_weight_bits_with_any_activation_bits(bits, input_bits):
  keys = jax.random.split(jax.random.key(bits), 3)
  params = {"conv": jax.random.normal(keys[0], (3, 3, 4, 6)), "out": jax.random.normal(
      keys[1], (6 * 25, 7))}

  def apply(p, x):
    x = jax.lax.conv_general_dilated(x, p["conv"], (1, 1), "SAME",
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return jax.nn.relu(x).reshape(len(x), -1) @ p["out"]

  x = jax.random.normal(keys[2], (3, 5, 5, 4))
  p = cj.quantize.calibrate(apply, cj.quantize.affine(params, bits), [x], bits=input_bits)
  fake, deployed = both(p, apply, x)
  np.testing.assert_array_equal(fake, deployed)
  seen = jax.jit(cj.capture(apply))(p, x)[1]
  np.testing.assert_array_equal(seen["conv"][0].output, jax.jit(cj.capture(apply))(
      cj.freeze(p), x)[1]["conv"][0].output)
  # Against plain rounded floats: apart by what float32 sums lose.
  plain = cj.lift(apply, exact=False)(p, x)
  np.testing.assert_allclose(deployed, plain, atol=2e-5 * np.abs(plain).max())


def convolved(dims=("NHWC", "HWIO", "NHWC"), strides=(1, 1), padding="SAME", **more):
  """Returns the convolution of x with w."""
  return lambda w, x: jax.lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=dims,
                                                   **more)


# How a weight may be applied: (kernel's shape, its output axes, image's shape, function).
APPLIED = {
    "grouped": ((3, 3, 2, 6), -1, (2, 5, 5, 4), convolved(feature_group_count=2)),
    "depthwise": ((3, 3, 1, 4), -1, (2, 5, 5, 4), convolved(feature_group_count=4)),
    "images in groups": ((3, 3, 4, 6), -1, (4, 5, 5, 4), convolved(batch_group_count=2)),
    "apart": ((2, 3, 4, 6), -1, (2, 9, 9, 4), convolved(
        strides=(2, 1), padding="VALID", rhs_dilation=(2, 3))),
    "transposed": ((3, 3, 4, 6), -1, (2, 4, 4, 4), convolved(
        padding=((1, 2), (1, 2)), lhs_dilation=(2, 2))),
    "smaller than the kernel": ((5, 5, 4, 6), -1, (2, 2, 3, 4), convolved()),
    "channels first": ((6, 4, 3, 3), 0, (2, 4, 5, 5), convolved(("NCHW", "OIHW", "NCHW"))),
    "one axis": ((3, 4, 6), -1, (2, 9, 4), convolved(("NHC", "HIO", "NHC"), (2,))),
    "on the left": ((6, 4), 0, (4, 3), lambda w, x: w @ x),
    "a row": ((4, 6), -1, (1, 1, 4), lambda w, x: x @ w),
    "a vector on the left": ((6, 4), 0, (4,), lambda w, x: w @ x),
    "two sums": ((2, 4, 6), -1, (3, 2, 4), lambda w, x: jnp.einsum("bij,ijk->bk", x, w)),
    "experts": ((3, 4, 6), (0, -1), (3, 5, 4), lambda w, x: jnp.einsum("ebi,eio->ebo", x, w)),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", APPLIED)
def test_inputs_with_a_zero_point_in_every_layout_to_the_bit(name, symmetric):
  shape, axis, images, fn = APPLIED[name]
  keys = jax.random.split(jax.random.key(1), 2)
  # The sums of weights matter: they and the inputs are far from 0 in the mean.
  params, x = {"w": 0.3 + jax.random.normal(keys[0], shape)}, 1 + jax.random.normal(keys[1], images)
  apply = lambda p, x: fn(p["w"], x)
  p = cj.quantize.affine(params, 8, axis=axis, symmetric=symmetric)
  p = cj.quantize.calibrate(apply, p, [x])
  assert p["w"].input.zero_point is not None and (p["w"].zero_point is None) == symmetric
  fake, deployed = both(p, apply, x)
  np.testing.assert_array_equal(fake, deployed)
  plain = apply(params, x)
  np.testing.assert_allclose(deployed, plain, atol=0.03 * np.abs(plain).max())


@pytest.mark.parametrize("axes", [(None, 0), (0, 0), (0, None)])
def test_rows_by_vmap_to_the_bit(axes):
  keys = jax.random.split(jax.random.key(2), 2)
  params, x = {"w": jax.random.normal(keys[0], (5, 4))}, 1 + jax.random.normal(keys[1], (3, 5))
  apply = lambda p, row: jnp.tanh(p["w"].T @ row)
  fake = cj.quantize.calibrate(apply, cj.quantize.affine(params, 8, axis=1), [x[0], 2 * x[1]])
  p = cj.freeze(fake)
  each = jnp.stack([jax.jit(cj.lift(apply))(p, row) for row in x])
  many = jax.tree.map(lambda a: jnp.stack([a] * 3), p) if axes[0] == 0 else p
  rows = x if axes[1] == 0 else x[0]
  found = jax.jit(jax.vmap(cj.lift(apply), axes))(many, rows)
  np.testing.assert_array_equal(found, each if axes[1] == 0 else jnp.stack([each[0]] * 3))
  if axes == (None, 0):  # one product of all rows
    text = str(jax.make_jaxpr(jax.vmap(cj.lift(apply), axes))(p, x))
    assert text.count("i32[3,4] = dot_general") == 1


def test_a_row_has_the_gradient_of_its_floats():
  keys = jax.random.split(jax.random.key(2), 2)
  params, x = {"w": jax.random.normal(keys[0], (5, 4))}, jax.random.normal(keys[1], (1, 5))
  apply = lambda p, x: jnp.tanh(x @ p["w"])
  p = cj.freeze(cj.quantize.calibrate(apply, cj.quantize.affine(params, 8), [2 * x]))
  found, expected = (jax.grad(lambda x, f=f, p=p: f(p, x).sum())(x) for f, p in (
      (cj.lift(apply), p), (apply, cj.dense(p))))
  np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.02)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("name", ["group", "dynamic", "group_dynamic", "group_weight_only"])
def test_groups_and_dynamic_inputs_to_the_bit(name, symmetric):
  keys = jax.random.split(jax.random.key(0), 2)
  params = {"conv": jax.random.normal(keys[0], (3, 3, 4, 6)), "out": jnp.eye(6 * 16, 8)}

  def apply(p, x):
    x = jax.lax.conv_general_dilated(x, p["conv"], (2, 1), [(1, 1), (0, 1)],
                                     dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return x.reshape(len(x), -1)[:, :96] @ p["out"]

  x = jax.random.normal(keys[1], (3, 8, 6, 4))
  p = cj.quantize.affine(params, 4, symmetric=symmetric, group=2 if "group" in name else None)
  if "dynamic" in name:
    p = cj.quantize.dynamic(p, symmetric=symmetric)
  elif "only" not in name:
    p = cj.quantize.calibrate(apply, p, [x], symmetric=symmetric)
  fake, deployed = both(p, apply, x)
  np.testing.assert_array_equal(fake, deployed)
  reference = apply(cj.dense(p), x)
  assert np.abs(deployed - reference).max() < 0.05 * np.abs(reference).max()
  gradients = [jax.grad(lambda x, e=e: (cj.lift(apply, exact=e)(p, x)**2).sum())(x)
               for e in (True, False)]
  np.testing.assert_allclose(*gradients, rtol=1e-3, atol=1e-3 * np.abs(gradients[0]).max())


def test_training_arithmetic_has_the_exact_ones_gradient():
  w, x = jax.random.normal(jax.random.key(0), (5, 4)), jax.random.normal(jax.random.key(1), (3, 5))
  apply = lambda p, x: jnp.tanh(x @ p["w"])
  p = cj.quantize.calibrate(apply, cj.quantize.learned({"w": w}, 4), [x], learned=True)
  x = 1.3 * x  # some of it is clipped, and none lies on the edge
  trainable, rest = cj.partition(p)
  assert len(jax.tree.leaves(trainable)) == 3  # weights, their step, the input's step
  exact, fast = (jax.grad(lambda t, e=e: cj.lift(apply, exact=e)(cj.merge(t, rest), x).sum())(
      trainable) for e in (True, False))
  for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(fast), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
  # LSQ (Esser et al. 2020), equation 3, for the input's step: N is one example's features, Q_P
  # the largest whole number.
  leaf = p["w"]
  scale, zero = float(leaf.input.scale), int(leaf.input.zero_point)
  ratio = np.asarray(x, np.float64) / scale
  low, high = -8 * 16 - zero, 127 - zero
  rounded = np.clip(np.rint(ratio), low, high)
  inside = (ratio > low) & (ratio < high)
  out = jnp.tanh(leaf.input.fake_quantize(x) @ leaf.dense())
  upstream = np.asarray((1 - out**2) @ leaf.dense().T)
  expected = (upstream * np.where(inside, rounded - ratio, rounded)).sum()
  expected /= np.sqrt(x.shape[1] * high)
  np.testing.assert_allclose(float(trainable["w"].input.scale), scale)
  np.testing.assert_allclose(float(fast["w"].input.scale), expected, rtol=1e-3)


LEAVES = {
    "integers": lambda p: cj.quantize.affine(p, 8),
    "low_rank": lambda p: cj.factorize.svd(p, rank=2, where="kernel"),
    "low_rank_integers": lambda p: cj.quantize.affine(
        cj.factorize.svd(p, rank=2, where="kernel"), 8),
    "tucker2": lambda p: cj.factorize.tucker2(p, rank=(2, 2), where="kernel"),
    "spatial": lambda p: cj.factorize.spatial(p, rank=2, where="kernel"),
    "blocks": lambda p: cj.prune.block(p, 0.5, block=(3, 2), where="kernel"),
}


def dense_floats(fn, p, x, shapes):
  """Counts what an executable computes that is a float array of a weight's shape."""
  text = jax.jit(fn).lower(p, x).compile().as_text()
  found = re.findall(r"= f32\[([\d,]+)\]\S* ([\w-]+)\(", text)
  return sum(dims in shapes for dims, op in found if op not in ("parameter", "get-tuple-element"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", LEAVES)
def test_nothing_is_densified_on_the_fast_path(name, linen):
  params, apply, x = linen
  compressed = LEAVES[name](params)
  if "integers" in name:
    compressed = cj.quantize.calibrate(apply, compressed, [x])
  deployed = cj.freeze(compressed)
  shapes = {",".join(map(str, leaf.shape)) for _, leaf in cj.entries(deployed)[0]
            if cj.is_leaf(leaf)}
  assert dense_floats(cj.lift(apply), deployed, x, shapes) == 0
  assert dense_floats(lambda p, x: apply(cj.dense(p), x), deployed, x, shapes) > 0


@pytest.mark.parametrize("make", [
    lambda p, f, x: cj.quantize.calibrate(f, cj.quantize.affine(p, 8), [x], bits=4),
    lambda p, f, x: cj.quantize.dynamic(cj.quantize.affine(p, 4, symmetric=False)),
    lambda p, f, x: cj.quantize.calibrate(f, cj.quantize.learned(p, 4), [x], learned=True)],
    ids=["static", "dynamic", "learned"])
def test_a_mask_around_a_weight_whose_input_has_a_grid_to_the_bit(make):
  w, x = (jax.random.normal(jax.random.key(i), (8, 8)) for i in (0, 1))
  apply = lambda p, x: x @ p["w"]
  inside = make({"w": w}, apply, x)["w"]
  p = {"w": cj.Masked(cj.Masked(inside, jnp.abs(w) > 0.3), w > -1)}
  fake, deployed = both(p, apply, x)
  np.testing.assert_array_equal(fake, deployed)
  assert np.abs(deployed - apply(cj.dense(p), x)).max() > 0.01  # the input is rounded
  trainable, rest = cj.partition(p)
  grads = jax.grad(lambda t: (cj.lift(apply)(cj.merge(t, rest), x)**2).sum())(trainable)
  grid = inside.input_grid().for_input(x)
  plain = jax.grad(lambda t: (apply(cj.dense(cj.merge(t, rest)), grid.fake_quantize(x))**2).sum())(
      trainable)
  np.testing.assert_allclose(grads["w"].value.value.value, plain["w"].value.value.value, rtol=1e-3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_densified_product_still_rounds_its_input(symmetric):
  w, x = (jax.random.normal(jax.random.key(i), (8, 8)) for i in (0, 1))
  apply = lambda p, x: x @ p
  grid = cj.quantize.calibrate(apply, cj.quantize.affine(w, 8), [x], bits=4,
                               symmetric=symmetric).input
  # One scale for every input: no single rescale can follow, so integers have no rule.
  p = cj.quantize.affine(w, 8, axis=0).with_input_grid(grid)
  with pytest.raises(cj.NoRule, match="varies along the summed axis"):
    cj.lift(apply)(p, x)
  rounded = p.input.fake_quantize(x) @ p.dense()
  for tree in (p, cj.freeze(p)):
    np.testing.assert_allclose(cj.lift(apply, densify=True)(tree, x), rounded, rtol=1e-5, atol=1e-5)
  assert np.abs(rounded - x @ p.dense()).max() > 0.01

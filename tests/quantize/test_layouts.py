"""The axis of the outputs, whatever order a library keeps a weight's axes in."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import compress_jax as cj


class Torchlike(eqx.Module):
  """A convolution and a matrix with their outputs in front."""

  conv: eqx.nn.Conv2d
  dense: eqx.nn.Linear

  def __call__(self, x):
    return self.dense(jax.nn.relu(self.conv(x)).mean((1, 2)))


def torchlike():
  keys = jax.random.split(jax.random.key(0), 2)
  model = Torchlike(eqx.nn.Conv2d(3, 6, 3, key=keys[0]), eqx.nn.Linear(6, 5, key=keys[1]))
  params, static = eqx.partition(model, eqx.is_array)
  return params, lambda p, x: jax.vmap(eqx.combine(p, static))(x)


X = jax.random.normal(jax.random.key(1), (2, 3, 6, 6))


def test_outputs_in_front_are_found_and_run_in_integers():
  params, apply = torchlike()
  axes = cj.quantize.channel_axes(apply, params, X)
  assert (axes("conv/weight"), axes("dense/weight")) == (0, 0)
  p = cj.quantize.affine(params, 8, axis=axes)
  assert p.conv.weight.scale.shape == (6, 1, 1, 1) and p.dense.weight.scale.shape == (5, 1)
  p = cj.quantize.calibrate(apply, p, [X])
  fake, deployed = (jax.jit(cj.lift(apply))(t, X) for t in (p, cj.freeze(p)))
  np.testing.assert_array_equal(fake, deployed)
  assert np.abs(deployed - apply(params, X)).max() < 0.05


def test_the_default_axis_is_refused_with_the_one_that_helps():
  params, apply = torchlike()
  p = cj.quantize.affine(params, 8)
  with pytest.raises(cj.NoRule, match=r"conv/weight: its scale varies .*quantize it with axis=0"):
    cj.quantize.calibrate(apply, p, [X])


def test_flax_keeps_its_axes():
  model = nn.Sequential([nn.Conv(4, (3, 3)), lambda x: x.mean((1, 2)), nn.Dense(3)])
  params = model.init(jax.random.key(0), X)
  axes = cj.quantize.channel_axes(model.apply, params, X)
  assert axes("params/layers_0/kernel") == 3 and axes("params/layers_2/kernel") == 1
  attention = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)
  x = jnp.ones((1, 4, 8))
  params = attention.init(jax.random.key(0), x, x)
  axes = cj.quantize.channel_axes(attention.apply, params, x, x)
  assert axes("params/query/kernel") == (1, 2) and axes("params/out/kernel") == 2


def test_a_weight_with_several_uses_has_the_axes_that_all_allow():
  params = {"tied": jnp.eye(4), "table": jnp.ones((5, 4)), "once": jnp.eye(4)}

  def apply(p, ids):
    x = p["table"][ids] @ p["once"]
    return (x @ p["tied"]) @ p["tied"].T

  axes = cj.quantize.channel_axes(apply, params, jnp.arange(3))
  assert (axes("once"), axes("tied"), axes("table")) == (1, None, -1)


@pytest.mark.parametrize("apply", [
    lambda p, x: jax.lax.scan(lambda x, w: (x @ w, None), x, p["w"])[0],
    lambda p, x: functools.reduce(lambda x, i: x @ p["w"][i], range(3), x),
    lambda p, x: functools.reduce(lambda x, w: x @ w, p["w"], x)], ids=["scan", "index", "unstack"])
def test_every_layer_of_a_stack_has_its_own_scales(apply):
  # One layer much smaller than the others would round to zero on their scale.
  w = jax.random.normal(jax.random.key(0), (3, 6, 6)) * jnp.array([1, 0.05, 1])[:, None, None]
  params, x = {"w": w}, jnp.ones((2, 6))
  axes = cj.quantize.channel_axes(apply, params, x)
  assert axes("w") == (0, 2)
  p = cj.quantize.affine(params, 4, axis=axes)
  errors = jnp.linalg.norm(cj.dense(p)["w"] - w, axis=(1, 2)) / jnp.linalg.norm(w, axis=(1, 2))
  assert errors.max() < 0.15
  np.testing.assert_allclose(cj.lift(apply)(cj.freeze(p), x), apply(cj.dense(p), x), rtol=1e-5)


def test_factors_are_found_one_by_one():
  params = cj.factorize.svd({"w": jnp.ones((5, 7))}, rank=2)
  axes = cj.quantize.channel_axes(lambda p, x: x @ p["w"].T, params, jnp.ones((3, 7)))
  assert axes("w/u") == 0 and axes("w/v") == 0
  axes = cj.quantize.channel_axes(lambda p, x: x @ p["w"], params, jnp.ones((3, 5)))
  assert axes("w/u") == 1 and axes("w/v") == 1

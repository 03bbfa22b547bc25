"""Groups of inputs, wherever a model's weights have them: sizes, refusals, and products."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import compress_jax as cj


def draw(*shape):
  return jnp.asarray(np.random.default_rng(len(shape)).normal(size=shape), jnp.float32)


def attention():
  model, x = nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8), draw(2, 5, 8)
  return model.init(jax.random.key(0), x, x), lambda p, x: model.apply(p, x, x), x


def by_equinox(module, x):
  arrays, static = eqx.partition(module, eqx.is_array)
  return arrays, lambda p, x: jax.vmap(eqx.combine(p, static))(x), x


def of_attention(path):
  return 0 if re.search("query|key|value", path) else None


MODELS = {
    "attention": (attention, {"group_axis": of_attention}),
    "heads' own scales": (attention, {
        "group_axis": of_attention, "axis": lambda path: -1 if "out" in path else (1, 2)}),
    "one scale for all": (attention, {"group_axis": of_attention, "axis": None}),
    "linear": (lambda: by_equinox(eqx.nn.MLP(8, 6, 4, 1, key=jax.random.key(0)), draw(3, 8)),
               {"axis": 0, "group_axis": -1}),
    "convolution": (lambda: by_equinox(eqx.nn.Conv2d(4, 6, 3, key=jax.random.key(0)),
                                       draw(2, 4, 6, 6)), {"axis": 0, "group_axis": 1}),
}


@pytest.mark.parametrize("inputs", ["floats", "static", "dynamic"])
@pytest.mark.parametrize("name", MODELS)
def test_products_with_groups_of_inputs_equal_the_dense_ones(name, inputs):
  make, how = MODELS[name]
  params, apply, x = make()
  p = cj.quantize.affine(params, 8, group=2, **how)
  if inputs == "static":
    p = cj.quantize.calibrate(apply, p, [x])
  if inputs == "dynamic":
    p = cj.quantize.dynamic(p)
  fake, deployed = cj.lift(apply)(p, x), cj.lift(apply)(cj.freeze(p), x)
  np.testing.assert_array_equal(fake, deployed)
  close = 1e-5 if inputs == "floats" else 0.05 * np.abs(fake).max()
  np.testing.assert_allclose(fake, apply(cj.dense(p), x), atol=close)


def test_a_group_of_an_attentions_inputs_is_quantized_as_if_it_were_alone():
  w = draw(8, 2, 4)
  for quantize in (cj.quantize.affine, cj.quantize.learned):
    together = quantize({"query": w}, 4, group=4, group_axis=of_attention)["query"]
    assert together.scale.shape == (2, 1, 4)
    for i in (0, 4):
      alone = quantize({"query": w[i:i + 4]}, 4)["query"]
      np.testing.assert_allclose(together.dense()[i:i + 4], alone.dense(), rtol=1e-6)


def test_n_of_m_are_kept_along_an_attentions_inputs():
  mask = np.asarray(cj.prune.n_m({"query": draw(8, 2, 4)}, 2, 4, axis=of_attention)["query"].mask)
  assert (mask.reshape(2, 4, 2, 4).sum(1) == 2).all()


FLAX = [(8, 4), (3, 8, 4), (3, 3, 8, 4), (3, 3, 3, 8, 4), (7, 8, 4)]
OTHERS = [(64, 8, 16), (3, 64, 8, 16), (32, 16, 3, 3), (2, 3, 64, 8, 16)]


@pytest.mark.parametrize("shape", FLAX)
def test_by_default_groups_are_of_the_inputs_that_flax_has(shape):
  scale = cj.quantize.affine({"w": draw(*shape)}, 4, group=2)["w"].scale
  assert scale.shape == (*(1,) * (len(shape) - 2), 4, 4)
  cj.prune.n_m({"w": draw(*shape)}, 2, 4)
  # A stack's layers, of which there may be more than inputs.
  stacked = cj.quantize.affine({"w": draw(9, 8, 4)}, 4, axis=(0, -1), group=2)["w"].scale
  assert stacked.shape == (9, 4, 4)


@pytest.mark.parametrize("shape", OTHERS)
def test_what_does_not_look_like_flaxs_inputs_is_asked_for_by_name(shape):
  tree, other = {"a": {"w": jnp.ones(shape)}}, 0 if len(shape) == 3 else 1
  with pytest.raises(ValueError, match=r"^a/w: group_axis=None: must be said for a \(.*default"):
    cj.quantize.affine(tree, 4, group=1)
  with pytest.raises(ValueError, match=r"^a/w: group_axis=None"):
    cj.quantize.learned(tree, 4, group=1, where="w")
  with pytest.raises(ValueError, match=r"^a/w: axis=None: must be said for a \("):
    cj.prune.n_m(tree, 1, 1)
  cj.quantize.affine(tree, 4, group=1, group_axis=other)
  cj.quantize.affine(tree, 4, group=1, group_axis=lambda path: -2)  # whoever says so gets it
  cj.prune.n_m(tree, 1, 1, axis=other)


@pytest.mark.parametrize("call,message", [
    (lambda w: cj.quantize.affine(w, 4, axis=0, group=2),
     r"w: group_axis=None: must be said for a \(4, 8, 8, 8\)"),  # its outputs are not the last
    (lambda w: cj.quantize.affine(w, 4, group=3, group_axis=1), "w: group=3: must divide axis -3"),
    (lambda w: cj.quantize.affine(w, 4, group=2, group_axis=-1), "w: group=2: must be None where"),
    (lambda w: cj.quantize.affine(w, 4, group=2, group_axis=4), "group_axis=4: must be from -4 to"),
    (lambda w: cj.quantize.affine(w, 4, group=2, group_axis="in"), "group_axis=in: must be from"),
    (lambda w: cj.prune.n_m(w, 1, 3, axis=1), "w: m=3: must divide axis -3"),
    (lambda w: cj.prune.n_m(w, 1, 2, axis=-5), "w: axis=-5: must be from -4 to 3"),
])
def test_bad_input_names_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call({"w": jnp.ones((4, 8, 8, 8))})


def test_groups_along_a_window_have_no_rule():
  model, x = nn.Conv(4, (4, 4)), jnp.ones((1, 8, 8, 4))
  params = cj.quantize.affine(model.init(jax.random.key(0), x), 8, group=2, group_axis=0)
  with pytest.raises(cj.NoRule, match="params/kernel: its scale varies along the summed axis"):
    cj.lift(model.apply)(cj.freeze(params), x)

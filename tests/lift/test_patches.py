"""Convolutions as products of patches: the numbers of `lax`'s own, and what GPUs get."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import compress_jax as cj
from compress_jax.lift import patches
from compress_jax.lift.contraction import Conv
from tests import conftest

LAYOUTS = (("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("HWNC", "IHWO", "CNHW"))


def params(x, w, layout, strides=(1, 1), padding=((0, 0), (0, 0)), lhs=(1, 1), rhs=(1, 1),
           groups=1):
  return {"dimension_numbers": lax.conv_dimension_numbers(x.shape, w.shape, layout),
          "window_strides": strides, "padding": padding, "lhs_dilation": lhs, "rhs_dilation": rhs,
          "feature_group_count": groups, "batch_group_count": 1}


def integers(seed, shape):
  return jnp.asarray(np.random.default_rng(seed).integers(-128, 128, shape), jnp.int8)


def laid_out(array, layout, axes):
  """Returns an array whose axes are named by `axes`, with the axes in the layout's order."""
  return jnp.transpose(array, [axes.index(name) for name in layout])


pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
pads = st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(0, 2))] * 2)


@given(layout=st.sampled_from(LAYOUTS), window=pairs, strides=pairs, padding=pads,
       lhs=st.tuples(st.integers(1, 2), st.integers(1, 2)),
       rhs=st.tuples(st.integers(1, 2), st.integers(1, 2)), groups=st.sampled_from((1, 2, 4)))
def test_they_are_the_convolutions_of_lax(layout, window, strides, padding, lhs, rhs, groups):
  x = laid_out(integers(0, (2, 7, 8, 4)), layout[0], "NHWC")
  w = laid_out(integers(1, (*window, 4 // groups, 8)), layout[1], "HWIO")
  given = params(x, w, layout, strides, padding, lhs, rhs, groups)
  expected = lax.conv_general_dilated(x, w, strides, padding, lhs, rhs, layout, groups,
                                      preferred_element_type=jnp.int32)
  conv = Conv(lax.conv_general_dilated_p, given, False, w.ndim, jnp.int32)
  padded, conv = conv.pad(x, jnp.int8(0))
  chex.assert_trees_all_equal(patches.convolution(padded, w, conv.params, jnp.int32), expected)


def test_whole_numbers_in_floats_stay_whole():
  x, w = integers(0, (3, 9, 9, 16)), integers(1, (3, 3, 16, 8))
  given = params(x, w, LAYOUTS[0])
  expected = patches.convolution(x, w, given, jnp.int32)
  floats = patches.convolution(x.astype(jnp.float32), w.astype(jnp.float32), given, jnp.float32)
  chex.assert_trees_all_equal(floats, expected.astype(jnp.float32))


def test_images_in_groups_and_windows_larger_than_the_image_are_left_to_lax():
  x, w = integers(0, (2, 3, 3, 2)), integers(1, (3, 3, 2, 2))
  given = params(x, w, LAYOUTS[0])
  assert patches.takes(x, w, given)
  assert not patches.takes(x, w, given | {"batch_group_count": 2})
  assert not patches.takes(x[:, :2], w, given)
  high = given | {"padding": ((0, 1), (0, 0))}
  conv = Conv(lax.conv_general_dilated_p, high, False, w.ndim, jnp.int32)
  padded, conv = conv.pad(x[:, :2], jnp.int8(0))
  assert patches.takes(padded, w, conv.params)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 2, 2, 3), (2, 1, 5, 3)])
def test_no_images_and_images_smaller_than_the_window_give_what_the_dense_model_gives(shape):
  lifted, frozen, fake, _ = deployed(lambda p: cj.quantize.affine(p, 8), nn.Conv(
      5, (3, 3), padding="VALID"))
  x = jnp.ones(shape)
  for leaves in (frozen, fake):
    y = lifted(leaves, x)
    assert y.shape == (shape[0], max(0, shape[1] - 2), max(0, shape[2] - 2), 5)


def test_images_of_any_size_are_exported():
  lifted, frozen, _, _ = deployed(lambda p: cj.quantize.affine(p, 8), nn.Conv(
      5, (3, 3), padding="VALID"))
  sizes = jax.export.symbolic_shape("b,h,w,3")
  exported = jax.export.export(lifted)(frozen, jax.ShapeDtypeStruct(sizes, jnp.float32))
  x = jax.random.normal(jax.random.key(1), (2, 6, 7, 3))
  chex.assert_trees_all_equal(exported.call(frozen, x), lifted(frozen, x))


def convolutions(lowered):
  """Returns the element types of a program's convolutions: of x, kernel and result."""
  found = re.findall(r"stablehlo\.convolution.*: \(tensor<([^>]*)>, tensor<([^>]*)>\) -> "
                     r"tensor<([^>]*)>", lowered.as_text())
  return [tuple(shape.rpartition("x")[2] for shape in each) for each in found]


def deployed(make, model=None):
  """Returns a lifted convolutional model, its deployed and its fake-quantized leaves, an input."""
  model, x = model or conftest.LinenModel(), jnp.ones((2, 8, 8, 3))

  def apply(params, x):
    return model.apply({"params": params}, x)

  made = make(model.init(jax.random.key(0), x)["params"])
  fake = cj.quantize.calibrate(apply, made, [x])
  return jax.jit(cj.lift(apply)), cj.freeze(fake), fake, x


def of_integers(found):
  return [types for types in found if any(re.match(r"u?i\d", kind) for kind in types)]


@pytest.mark.parametrize("make", [
    lambda p: cj.quantize.affine(p, 8), lambda p: cj.quantize.affine(p, 16),
    lambda p: cj.quantize.affine(p, 4, symmetric=False),
    lambda p: cj.quantize.affine(p, 4, group=3, where="Conv_0/kernel"),
    lambda p: cj.quantize.affine(cj.prune.block(p, 0.5, block=(6, 4)), 8),
    lambda p: cj.quantize.affine(cj.factorize.tucker2(p, rank=(2, 3)), 8),
    lambda p: cj.quantize.affine(cj.factorize.spatial(p, rank=4), 8),
], ids=["8 bits", "16 bits", "zero points", "groups", "blocks", "tucker2", "spatial"])
def test_a_gpu_gets_no_convolution_of_integers(make):
  # XLA has none there: the program would not compile.
  lifted, frozen, fake, x = deployed(make)
  for platform in ("cuda", "rocm"):
    for leaves in (frozen, fake):
      program = lifted.trace(leaves, x).lower(lowering_platforms=(platform,))
      assert not of_integers(convolutions(program)), convolutions(program)


def test_other_devices_have_theirs_and_a_gpu_keeps_those_of_the_gradient():
  lifted, frozen, _, x = deployed(lambda p: cj.quantize.affine(p, 8))
  assert len(of_integers(convolutions(lifted.lower(frozen, x)))) == 2 * 2
  program = lifted.trace(frozen, x).lower(lowering_platforms=("cuda",))
  assert convolutions(program) == [("f32", "f32", "f32")] * 2


def test_an_export_for_gpus_has_none_either():
  lifted, frozen, _, x = deployed(lambda p: cj.quantize.affine(p, 8))
  exported = jax.export.export(lifted, platforms=("cuda",))(frozen, x)
  assert not re.search(r"stablehlo\.convolution.*xi8>", exported.mlir_module())

"""The fast gradients against XLA's."""

import jax
import numpy as np
import pytest
from jax import lax

from experiments.models.convolution import conv_general_dilated

SMALL = (2, 3, 5)  # images, channels in and out
# The patches are of what has fewer channels, and of some of the images at a time.
FEW_INPUTS, FEW_OUTPUTS = (40, 97, 128), (40, 128, 97)
ONE_BY_ONE = (3, 128, 128)  # a prime number of images, too many for one part
COLUMN = (5, 3, 5)
CASES = [(1, "SAME", 3, 2, SMALL), (1, "SAME", 3, 2, COLUMN), (1, "SAME", 3, 8, SMALL),
         (2, "SAME", 3, 9, SMALL),
         (2, "VALID", 3, 8, SMALL), (1, "SAME", 1, 6, SMALL), (2, "SAME", 1, 7, SMALL),
         (3, ((0, 2), (1, 4)), 4, 11, SMALL), (2, ((3, 3), (3, 3)), 7, 12, SMALL),
         (1, "SAME", 3, 8, FEW_INPUTS), (2, ((0, 2), (1, 4)), 4, 11, FEW_INPUTS),
         (1, "SAME", 3, 8, FEW_OUTPUTS), (2, "SAME", 3, 9, FEW_OUTPUTS),
         (1, "SAME", 3, 24, ONE_BY_ONE), (1, ((0, 1), (2, 0)), 2, 4, FEW_OUTPUTS)]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stride,padding,kernel,side,sizes", CASES)
def test_gradients_are_xlas(stride, padding, kernel, side, sizes):
  count, channels, features = sizes
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (count, side, side, channels))
  # Of a size that keeps the outputs near 1.
  w = jax.random.normal(keys[1], (kernel, kernel, channels, features)) * channels**-0.5
  def grads(conv):
    fn = lambda x, w: (conv(x, w, (stride, stride), padding,
                            dimension_numbers=("NHWC", "HWIO", "NHWC"))**2).sum()
    return jax.jit(jax.grad(fn, (0, 1)))(x, w)
  for ours, xlas in zip(grads(conv_general_dilated), grads(lax.conv_general_dilated), strict=True):
    # Of sums of many products, up to thousands.
    np.testing.assert_allclose(ours, xlas, rtol=1e-4, atol=max(3e-4, 1e-6 * np.abs(xlas).max()))


def test_grouped_and_dilated_go_to_xla():
  x, w = np.ones((1, 6, 6, 4), np.float32), np.ones((3, 3, 2, 4), np.float32)
  out = conv_general_dilated(x, w, (1, 1), "SAME", rhs_dilation=(2, 2), feature_group_count=2,
                             dimension_numbers=("NHWC", "HWIO", "NHWC"))
  assert out.shape == (1, 6, 6, 4)


def test_arguments_the_fast_path_does_not_know_go_to_xla():
  x, w = np.ones((4, 6, 6, 2), np.float32), np.ones((3, 3, 2, 4), np.float32)
  out = conv_general_dilated(x, w, (1, 1), "SAME", batch_group_count=2,
                             dimension_numbers=("NHWC", "HWIO", "NHWC"))
  assert out.shape == (2, 6, 6, 4)


@pytest.mark.parametrize("side", [2, 8])
def test_batches_of_any_size_can_be_traced(side):
  images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), side, side, 3), np.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), np.float32)
  out = jax.eval_shape(lambda x, w: conv_general_dilated(
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")), images, kernel)
  assert out.shape[1:] == (side, side, 5) and str(out.shape[0]) == "b"


def test_gradients_of_batches_of_any_size_can_be_traced():
  images = jax.ShapeDtypeStruct((*jax.export.symbolic_shape("b"), 8, 8, 3), np.float32)
  kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), np.float32)
  loss = lambda w, x: conv_general_dilated(
      x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")).sum()
  assert jax.eval_shape(jax.grad(loss), kernel, images).shape == kernel.shape

"""Block-sparse convolutions against the dense one: slices, gathers, patches, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import compress_jax as cj
from compress_jax.kernels.block_sparse import convolution

conv = cj.kernels.block_sparse.conv


def case(shape, block, dtype="float32", density=0.4):
  rng = np.random.default_rng(0)
  rows, width = int(np.prod(shape[:-1])), shape[-1]
  kept = rng.random((-(-rows // block[0]), -(-width // block[1]))) < density
  mask = np.kron(kept, np.ones(block, bool))[:rows, :width].reshape(shape)
  draw = lambda *s: rng.integers(-100, 100, s) if dtype == "int8" else rng.normal(size=s)
  w = jnp.asarray(np.where(mask, draw(*shape), 0), dtype)
  x = jnp.asarray(draw(2, *(9,) * (len(shape) - 2), shape[-2]), dtype)
  return x, w, cj.BlockSparse.from_dense(w, block)


def dense(x, w, strides, dilation, dtype="float64"):
  numbers = ("NHWC", "HWIO", "NHWC") if w.ndim == 4 else ("NWC", "WIO", "NWC")
  kind = jnp.int32 if dtype == "int32" else jnp.float32
  return lax.conv_general_dilated(x.astype(kind), w.astype(kind), strides, "VALID",
                                  rhs_dilation=dilation, dimension_numbers=numbers,
                                  precision="highest")


@pytest.mark.parametrize("shape,block,strides,dilation", [
    ((3, 3, 16, 20), (8, 8), (1, 1), (1, 1)),    # slices; ragged outputs
    ((3, 2, 16, 16), (16, 8), (2, 1), (1, 2)),   # strided and dilated
    ((3, 3, 12, 16), (8, 8), (2, 2), (1, 1)),    # blocks across taps: patches
    ((3, 16, 16), (8, 8), (1,), (2,))])          # one spatial axis
def test_convolutions_are_the_dense_ones(shape, block, strides, dilation):
  x, w, leaf = case(shape, block)
  y = conv(x, leaf, strides=strides, dilation=dilation)
  expected = dense(x, w, strides, dilation)
  np.testing.assert_allclose(y, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("block", [(8, 8), (12, 8)])  # slices, patches
def test_no_images_give_no_images(block):
  x, _, leaf = case((3, 3, 16, 20), block)
  assert conv(x[:0], leaf).shape == (0, 7, 7, 20)


def test_many_blocks_are_gathered_at_once(monkeypatch):
  x, w, leaf = case((3, 3, 16, 16), (8, 8))
  monkeypatch.setattr(convolution, "SLICED_BLOCKS", 2)
  expected = dense(x, w, (1, 1), (1, 1))
  np.testing.assert_allclose(conv(x, leaf), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("density", [0.0, 0.5])
def test_integers_are_exact_and_empty_kernels_give_zeros(density):
  x, w, leaf = case((3, 3, 16, 16), (8, 8), "int8", density)
  np.testing.assert_array_equal(conv(x, leaf), dense(x, w, (1, 1), (1, 1), "int32"))


def test_other_backends_take_patches():
  x, w, leaf = case((2, 2, 8, 8), (8, 8), density=0.6)
  np.testing.assert_allclose(conv(x, leaf, backend="tpu_interpret"), dense(x, w, (1, 1), (1, 1)),
                             atol=1e-4)


def test_gradients_reach_x_and_the_stored_blocks_only():
  x, w, leaf = case((3, 3, 16, 16), (8, 8))
  loss = lambda x, b: (conv(x, dataclasses.replace(leaf, blocks=b))**3).sum()
  dx, db = jax.jit(jax.grad(loss, (0, 1)))(x, leaf.blocks)
  ex, ew = jax.jit(jax.grad(lambda x, w: (dense(x, w, (1, 1), (1, 1))**3).sum(), (0, 1)))(x, w)
  np.testing.assert_allclose(dx, ex, atol=1e-4 * np.abs(ex).max())
  made = dataclasses.replace(leaf, blocks=db).dense()
  np.testing.assert_allclose(made, np.where(w != 0, ew, 0), atol=1e-4 * np.abs(ew).max())


@pytest.mark.parametrize("x,shape,message", [
    ((2, 9, 9, 8), (3, 3, 16, 16), r"x has shape \(2, 9, 9, 8\), w \(3, 3, 16, 16\): must be"),
    ((9, 16), (16, 16), "as many axes, from three")])
def test_bad_operands_are_refused(x, shape, message):
  with pytest.raises(ValueError, match=message):
    conv(jnp.ones(x), cj.BlockSparse.from_dense(jnp.ones(shape), (8, 8)))

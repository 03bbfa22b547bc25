"""The Hopper kernel: it is lowered on any host, and has the right values wherever it can run."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import mosaic_gpu as plgpu

import compress_jax as cj
from compress_jax.kernels.block_sparse import gpu

# What this host can run: JAX 0.10 has no interpreter, and few hosts have the chip.
MODES = {}
if hasattr(plgpu, "InterpretGPUParams"):
  MODES["interpret"] = plgpu.InterpretGPUParams(detect_races=True)  # from memory full of NaN
if gpu.available():
  MODES["chip"] = False

# Rows of blocks of every column: none, more than there are buffers, one, some.
KEPT = {64: [[], range(8), [5], [], [0, 3, 7]], 128: [[], range(4), [2]]}


def sparse(block, dtype, seed=0):
  rng = np.random.default_rng(seed)
  mask = np.zeros((512 // block[0], len(KEPT[block[0]])), bool)
  for column, rows in enumerate(KEPT[block[0]]):
    mask[list(rows), column] = True
  mask = np.kron(mask, np.ones(block, bool))
  values = rng.integers(-127, 128, mask.shape) if dtype == "int8" else rng.normal(size=mask.shape)
  return cj.BlockSparse.from_dense(jnp.asarray(np.where(mask, values, 0), dtype), block)


def inputs(batch, dtype):
  rng = np.random.default_rng(1)
  values = rng.integers(-128, 128, (batch, 512)) if dtype == "int8" else rng.normal(
      size=(batch, 512))
  return jnp.asarray(values, dtype)


def lowered(function, *args):
  return jax.jit(function).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


@pytest.mark.parametrize("dtype,block", [
    ("bfloat16", (64, 64)), ("bfloat16", (128, 128)), ("float16", (64, 128)), ("int8", (128, 64)),
], ids=str)
def test_it_is_lowered_for_cuda_on_any_host(dtype, block):
  w = sparse(block, dtype)
  x = inputs(130, dtype)
  assert gpu.supports(x, w) is None
  assert "mosaic_gpu" in lowered(gpu.matmul, x, w)
  assert "mosaic_gpu" in lowered(jax.vmap(gpu.matmul, (0, None)), x.reshape(2, 65, 512), w)


@pytest.mark.parametrize("stored,programs", [("bfloat16", 2), ("int8", 1)])
def test_gradients_that_it_cannot_compute_are_left_to_xla(stored, programs):
  # What comes back through integers is float32, which wgmma does not take.
  w = dataclasses.replace(sparse((64, 64), stored), scale=None if stored == "bfloat16" else
                          jnp.ones(1))
  run = lambda x: cj.kernels.block_sparse.matmul(x, w, backend="gpu").sum()
  text = lowered(jax.value_and_grad(run), inputs(3, "bfloat16"))
  assert text.count("custom_call @mosaic_gpu") == programs


def test_what_it_cannot_run_is_named():
  bfloat16 = inputs(2, "bfloat16")
  small = cj.BlockSparse.from_dense(jnp.ones((64, 32), jnp.bfloat16), (64, 32))
  assert gpu.supports(bfloat16, small) == (
      "block=(64, 32): the GPU kernel takes sides of 64 and 128")
  assert gpu.supports(inputs(2, "float32"), sparse((64, 64), "float32")) == (
      "x has dtype float32: the GPU kernel takes bfloat16, float16, int8")
  assert gpu.supports(bfloat16, sparse((64, 64), "int8")) is None


def test_without_any_block_it_is_zeros():
  w = cj.BlockSparse.from_dense(jnp.zeros((512, 128), jnp.bfloat16), (64, 64))
  y = gpu.matmul(inputs(3, "bfloat16"), w)
  assert y.dtype == jnp.float32 and y.shape == (3, 128) and not np.asarray(y).any()


if MODES:
  @pytest.mark.parametrize("mode", MODES)
  @pytest.mark.parametrize("batch,dtype,stored,block", [
      (130, "bfloat16", "bfloat16", (64, 64)), (3, "bfloat16", "bfloat16", (128, 128)),
      (3, "float16", "float16", (64, 128)), (3, "bfloat16", "int8", (64, 64)),
      (3, "int8", "int8", (128, 64)),
  ], ids=str)
  def test_products_are_the_dense_ones_and_empty_columns_are_zeros(batch, dtype, stored, block,
                                                                   mode):
    w, x = sparse(block, stored), inputs(batch, dtype)
    y = gpu.matmul(x, w, interpret=MODES[mode])
    assert y.dtype == (jnp.int32 if dtype == "int8" else jnp.float32)
    expected = np.asarray(x, np.float64) @ np.asarray(w.dense(), np.float64)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * (dtype != "int8") * np.abs(
        expected).max())
    assert not np.asarray(y)[:, :block[1]].any()

  @pytest.mark.parametrize("mode", MODES)
  def test_sums_are_rounded_once_to_what_is_asked_for(mode):
    w, x = sparse((64, 64), "bfloat16"), inputs(3, "bfloat16")
    sums = gpu.matmul(x, w, interpret=MODES[mode])
    y = gpu.matmul(x, w, jnp.dtype("bfloat16"), interpret=MODES[mode])
    np.testing.assert_array_equal(y, sums.astype(jnp.bfloat16))

  @pytest.mark.parametrize("mode", MODES)
  def test_every_row_of_a_large_batch_is_computed_once(mode):
    # Nine tiles: three groups of three.
    w, x = sparse((128, 128), "bfloat16"), inputs(9 * gpu.BATCH_TILE - 5, "bfloat16")
    y = gpu.matmul(x, w, interpret=MODES[mode])
    expected = np.asarray(x, np.float64) @ np.asarray(w.dense(), np.float64)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

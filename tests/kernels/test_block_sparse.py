"""Every backend against a float64 dense product: values, gradients, empty parts, bad input."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.experimental.pallas import tpu as pltpu

import compress_jax as cj
from compress_jax.kernels.block_sparse import reference, tpu

BLOCKS = [(16, 16), (8, 24), (16, 8), (64, 64), (32, 128), (128, 16)]
BACKENDS = ["xla", "tpu_interpret"]
TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2}


def sparse(shape, block, density, seed, dtype="float32"):
  rng = np.random.default_rng(seed)
  rows, columns = (-(-n // b) for n, b in zip(shape, block, strict=True))
  kept = rng.random((rows, columns)) < density
  mask = np.kron(kept, np.ones(block, bool))[:shape[0], :shape[1]]
  values = rng.integers(-127, 128, shape) if dtype == "int8" else rng.normal(size=shape)
  return jnp.asarray(np.where(mask, values, 0), dtype)


def close(y, expected, dtype):
  # Of the largest entry; a product that is all zeros must be so exactly.
  assert np.abs(np.asarray(y, np.float64) - expected).max() <= TOLERANCE[dtype] * np.abs(
      expected).max()


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=10)  # a structure is a program
@given(shape=st.tuples(st.integers(1, 140), st.integers(1, 140)), block=st.sampled_from(BLOCKS),
       density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers(0, 3),
       dtype=st.sampled_from(["float32", "bfloat16"]), batch=st.sampled_from([(), (5,), (2, 3)]))
def test_products_are_the_dense_ones(backend, shape, block, density, dtype, batch, seed):
  w = sparse(shape, block, density, seed, dtype)
  x = jnp.asarray(np.random.default_rng(seed).normal(size=(*batch, shape[0])), dtype)
  leaf = cj.BlockSparse.from_dense(w, block)
  np.testing.assert_array_equal(leaf.dense(), w)
  y = jax.jit(functools.partial(cj.kernels.block_sparse.matmul, backend=backend))(x, leaf)
  assert y.dtype == x.dtype and y.shape == (*batch, shape[1])
  close(y, np.asarray(x, np.float64) @ np.asarray(w, np.float64), dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_integers_are_exact_and_scaled_once(backend):
  w = sparse((50, 37), (16, 8), 0.4, 1, "int8")
  x = jnp.asarray(np.random.default_rng(0).integers(-128, 128, (7, 50)), jnp.int8)
  leaf = cj.BlockSparse.from_dense(w, (16, 8))
  exact = np.asarray(x, np.int64) @ np.asarray(w, np.int64)
  total = cj.kernels.block_sparse.matmul(x, leaf, backend=backend)
  assert total.dtype == jnp.int32
  np.testing.assert_array_equal(total, exact)
  scale = jnp.linspace(0.5, 2, 37)
  scaled = cj.kernels.block_sparse.matmul(x, dataclasses.replace(leaf, scale=scale),
                                          backend=backend)
  np.testing.assert_array_equal(scaled, exact.astype(np.float32) * np.asarray(scale))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype,scale", [("bfloat16", None), ("int8", 0.5)])
def test_results_are_of_the_dtype_that_is_asked_for(backend, dtype, scale):
  w = sparse((32, 40), (8, 24), 0.5, 1, "int8")
  leaf = cj.BlockSparse.from_dense(w.astype(dtype), (8, 24), scale=scale and jnp.full(1, scale))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 32)), "bfloat16")
  run = functools.partial(cj.kernels.block_sparse.matmul, w=leaf, backend=backend)
  y, pull = jax.vjp(jax.jit(functools.partial(run, out_dtype="float32")), x)
  assert y.dtype == jnp.float32 and run(x).dtype == jnp.bfloat16
  dense = np.asarray(leaf.dense(), np.float64)
  close(y, np.asarray(x, np.float64) @ dense, "float32")
  # What comes back is not rounded to the operand's dtype either; these sums are exact in float32.
  g = jnp.asarray(np.random.default_rng(1).integers(-1024, 1025, y.shape) / 1024, jnp.float32)
  expected = jnp.asarray(np.asarray(g, np.float64) @ dense.T, jnp.bfloat16)
  np.testing.assert_array_equal(pull(g)[0], expected)
  with pytest.raises(ValueError, match="out_dtype='int32': must be a float, or None"):
    run(x, out_dtype=jnp.int32)


@pytest.mark.parametrize("backend,dtype", [("xla", "float32"), ("xla", "bfloat16"),
                                           ("tpu_interpret", "float32")])
def test_gradients_are_the_dense_ones_at_the_stored_blocks(backend, dtype):
  w = sparse((64, 40), (8, 24), 0.3, 2, dtype)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 64)), dtype)
  leaf = cj.BlockSparse.from_dense(w, (8, 24))
  run = lambda x, blocks: (cj.kernels.block_sparse.matmul(
      x, dataclasses.replace(leaf, blocks=blocks), backend=backend)**3).sum()
  dx, db = jax.jit(jax.grad(run, (0, 1)))(x, leaf.blocks)
  assert dx.dtype == db.dtype == x.dtype
  ex, ew = jax.grad(lambda x, w: ((x @ w)**3).sum(), (0, 1))(
      x.astype("float32"), w.astype("float32"))
  tolerance = 1e-4 if dtype == "float32" else 5e-2  # three roundings to bfloat16
  wide = lambda a: np.asarray(a, np.float32)
  np.testing.assert_allclose(wide(dx), ex, atol=tolerance * np.abs(ex).max())
  # 40 columns are one block and two thirds of one: what fills it up takes no part.
  stored = np.asarray(dataclasses.replace(leaf, blocks=jnp.ones_like(leaf.blocks)).dense()) != 0
  made = dataclasses.replace(leaf, blocks=db).dense()
  np.testing.assert_allclose(wide(made), np.where(wide(stored), ew, 0),
                             atol=tolerance * np.abs(ew).max())


def test_the_tpu_kernel_is_vmapped():
  leaf = cj.BlockSparse.from_dense(sparse((32, 48), (16, 16), 0.5, 0), (16, 16))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 32)), jnp.float32)
  run = lambda x: cj.kernels.block_sparse.matmul(x, leaf, backend="tpu_interpret")
  np.testing.assert_allclose(jax.vmap(run)(x), x @ leaf.dense(), atol=1e-5)


def test_jit_and_vmap_over_inputs_and_weights():
  leaves = [cj.BlockSparse.from_dense(sparse((32, 48), (16, 16), 0.5, s)) for s in (0, 0)]
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 32)), jnp.float32)
  matmul = cj.kernels.block_sparse.matmul
  expected = matmul(x, leaves[0])
  np.testing.assert_allclose(jax.vmap(matmul, (0, None))(x, leaves[0]), expected, atol=1e-5)
  stack = jax.tree.map(lambda *a: jnp.stack(a), *leaves)
  both = jax.jit(jax.vmap(matmul, (None, 0)))(x, stack)
  np.testing.assert_allclose(both, jnp.stack([expected, expected]), atol=1e-5)


@pytest.mark.parametrize("interpret", [True, pltpu.InterpretParams(uninitialized_memory="nan")],
                         ids=["interpret", "mosaic"])
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_the_tpu_kernel_writes_every_block_in_both_interpret_modes(interpret, density):
  w = sparse((64, 80), (16, 16), density, 3)
  leaf = cj.BlockSparse.from_dense(w, (16, 16))
  x = jnp.asarray(np.random.default_rng(0).normal(size=(9, 64)), jnp.float32)
  # The second mode starts from memory full of NaN: an unwritten block would show.
  close(tpu.matmul(x, leaf, interpret), np.asarray(x, np.float64) @ np.asarray(w, np.float64),
        "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("shape,block", [
    ((256, 256), (128, 128)), ((64, 256), (64, 128)), ((128, 40), (128, 64)),
    ((256, 256), (64, 64)), ((256, 256), (64, 128)), ((256, 256), (128, 64))], ids=str)
def test_the_tpu_kernel_takes_what_is_lowered_for_tpu_on_any_host(shape, block, dtype):
  leaf = cj.BlockSparse.from_dense(sparse(shape, block, 0.6, 0, dtype), block)
  x = jnp.ones((256, shape[0]), dtype)
  lower = lambda: jax.jit(tpu.matmul).trace(x, leaf).lower(lowering_platforms=("tpu",))
  # Whole registers, or a side that has no other block beside it.
  if all(side == 128 or length <= side for side, length in zip(block, shape, strict=True)):
    assert tpu.supports(x, leaf) is None
    assert "tpu_custom_call" in lower().as_text()
    return
  assert f"block={block}: the TPU kernel takes multiples of 128" in tpu.supports(x, leaf)
  with pytest.raises(ValueError, match="divisible by 8 and 128"):
    lower()
  assert cj.kernels.block_sparse.matmul(x, leaf, backend="tpu_interpret").shape == (256, shape[1])


@pytest.mark.parametrize("limits", [{}, {"WHOLE_BYTES": 0, "GROUP_BYTES": 9000},
                                    {"LOOP_COLUMNS": 8}], ids=["whole", "groups", "loop"])
def test_columns_at_once_in_groups_and_in_a_loop_agree_with_the_dense_product(limits, monkeypatch):
  for name, value in limits.items():
    monkeypatch.setattr(reference, name, value)
  w = sparse((96, 330), (8, 8), 0.3, 7)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 96)), jnp.float32)
  leaf = cj.BlockSparse.from_dense(w, (8, 8))
  expected = np.asarray(x, np.float64) @ np.asarray(w, np.float64)
  close(cj.kernels.block_sparse.matmul(x, leaf), expected, "float32")


def test_no_dense_weight_is_computed():
  leaf = cj.BlockSparse.from_dense(sparse((128, 96), (16, 16), 0.3, 0), (16, 16))
  text = jax.jit(cj.kernels.block_sparse.matmul).lower(jnp.ones((4, 128)), leaf).compile().as_text()
  assert "f32[128,96]" not in text
  assert "f32[128,96]" in jax.jit(lambda x, w: x @ w.dense()).lower(
      jnp.ones((4, 128)), leaf).compile().as_text()


def leaf(**changes):
  made = cj.BlockSparse.from_dense(jnp.ones((8, 8)), (4, 4))
  return dataclasses.replace(made, **{k: v if k == "counts" else jnp.asarray(v)
                                      for k, v in changes.items()})


@pytest.mark.parametrize("w,x,message", [
    (lambda: leaf(rows=[0, 2, 0, 1]), (2, 8), "rows: holds 0 to 2; must be from 0 to 1"),
    (lambda: leaf(rows=[1, 0, 0, 1]), (2, 8), "rows: unsorted within a column"),
    (lambda: leaf(rows=[0, 0, 0, 1]), (2, 8), "rows: repeated within a column"),
    (lambda: leaf(counts=(2, 3)), (2, 8), "counts: 2 numbers .* sum to 5; must be 2 .* 4"),
    (lambda: leaf(counts=(4,)), (2, 8), "counts: 1 numbers .*must be 2"),
    (leaf, (2, 7), r"x has shape \(2, 7\): its last axis must be 8"),
    (lambda: leaf(blocks=jnp.ones((4, 4, 4), jnp.int16)), (2, 8),
     "BlockSparse.blocks: 'int16'; must be"),
    (lambda: jnp.ones((8, 8)), (2, 8), "w: a ArrayImpl; must be a BlockSparse"),
])
def test_bad_operands_are_refused_before_anything_runs(w, x, message):
  with pytest.raises(ValueError, match=message):
    cj.kernels.block_sparse.matmul(jnp.ones(x), w())


def test_blocks_that_a_backend_cannot_run_and_unknown_backends_are_refused():
  with pytest.raises(ValueError, match=r"block=\(4, 4\): the TPU kernel takes multiples of 8"):
    cj.kernels.block_sparse.matmul(jnp.ones((2, 8)), leaf(), backend="tpu")
  with pytest.raises(ValueError, match=r"block=\(64, 64\): the TPU kernel takes multiples of 128"):
    cj.kernels.block_sparse.matmul(jnp.ones((2, 128)), cj.BlockSparse.from_dense(
        jnp.ones((128, 128))), backend="tpu")
  with pytest.raises(ValueError, match=r"block=\(4, 4\): the GPU kernel takes sides of 64"):
    cj.kernels.block_sparse.matmul(jnp.ones((2, 8)), leaf(), backend="gpu")
  with pytest.raises(ValueError, match="backend='cuda': must be one of gpu, tpu"):
    cj.kernels.block_sparse.matmul(jnp.ones((2, 8)), leaf(), backend="cuda")
  with pytest.raises(ValueError, match="must be two whole numbers from 1"):
    cj.BlockSparse.from_dense(jnp.ones((8, 8)), (0, 4))
  with pytest.raises(ValueError, match="concrete array"):
    jax.jit(lambda w: cj.BlockSparse.from_dense(w).dense())(jnp.ones((8, 8)))


def test_transposing_twice_gives_the_same_matrix():
  made = cj.BlockSparse.from_dense(sparse((32, 48), (16, 16), 0.4, 5), (16, 16))
  back = made.flipped().flipped()
  np.testing.assert_array_equal(back.dense(), made.dense())
  np.testing.assert_array_equal(made.flipped().dense(), made.dense().T)


def test_gradients_in_half_precision_have_room_for_small_scales():
  rng = np.random.default_rng(0)
  w = {"w": jnp.asarray(0.01 * rng.normal(size=(16, 16)), jnp.float16)}
  p = cj.freeze(cj.quantize.affine(cj.prune.block(w, 0.5, block=(4, 4)), 8))
  x = jnp.asarray(rng.normal(size=(3, 16)), jnp.float16)
  loss = lambda p, x: ((x @ p["w"]).astype(jnp.float32)**2).mean() / 8
  found = jax.grad(lambda x: cj.lift(loss)(p, x))(x)
  np.testing.assert_allclose(found, jax.grad(lambda x: loss(cj.dense(p), x))(x), atol=2e-7)

"""Columns of blocks over a mesh of four devices, in a process of their own."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import compress_jax as cj
from compress_jax.kernels.block_sparse import shard, sharded_matmul

PROGRAM = """
import dataclasses, jax
jax.config.update("jax_num_cpu_devices", 4)
import jax.numpy as jnp, numpy as np
import compress_jax as cj
from compress_jax.kernels.block_sparse import shard, sharded_matmul

mesh = jax.make_mesh((4,), ("model",))
for outputs, dtype, height in ((128, "float32", 16), (90, "float32", 16), (128, "int8", 16),
                               (128, "float32", 32)):
  rng = np.random.default_rng(0)
  mask = np.kron(rng.random((64 // height, 8)) < 0.4, np.ones((height, 16)))[:, :outputs]
  values = rng.normal(size=(64, outputs)) if dtype == "float32" else rng.integers(-9, 9, mask.shape)
  w = jnp.asarray(values * mask, dtype)
  scale = jnp.linspace(1, 2, outputs) if dtype == "int8" else None
  leaf = cj.BlockSparse.from_dense(w, (height, 16), scale=scale)
  parts = shard(leaf, mesh, "model")
  assert parts.blocks.sharding.spec[0] == "model"
  x = jnp.asarray(rng.normal(size=(2, 5, 64)), jnp.float32)
  run = jax.jit(lambda x, p: sharded_matmul(x, p, mesh=mesh, axis="model"))
  np.testing.assert_allclose(run(x, parts), x @ leaf.dense(), atol=1e-4)
  moved = any(k in run.lower(x, parts).compile().as_text() for k in ("all-gather", "all-reduce"))
  assert moved == (outputs == 90)
  if dtype == "int8":
    continue
  loss = lambda x, b: (run(x, dataclasses.replace(parts, blocks=b))**2).sum()
  dx, db = jax.jit(jax.grad(loss, (0, 1)))(x, parts.blocks)
  ex, ew = jax.grad(lambda x, w: ((x @ w)**2).sum(), (0, 1))(x, w)
  np.testing.assert_allclose(dx, ex, atol=1e-3)
  # What only fills up gets no gradient, so that training keeps it zero.
  kept = np.where(mask, ew, 0)
  np.testing.assert_allclose((np.asarray(db)**2).sum(), (kept**2).sum(), rtol=1e-4)
print("done")
"""


def test_every_device_multiplies_its_own_columns():
  out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
  assert out.stdout == "done\n", out.stderr


def test_bad_input_is_refused():
  mesh = jax.make_mesh((1,), ("model",))
  w = cj.BlockSparse.from_dense(jnp.eye(8), (4, 4))
  with pytest.raises(ValueError, match="axis='data': must be one of model"):
    shard(w, mesh, "data")
  with pytest.raises(ValueError, match="concrete indices"):
    jax.jit(lambda w: shard(w, mesh, "model").rows)(w)
  with pytest.raises(ValueError, match=r"rows of shape \(2,\): must be what `shard` returns"):
    sharded_matmul(jnp.ones((2, 8)), w, mesh=mesh, axis="model")

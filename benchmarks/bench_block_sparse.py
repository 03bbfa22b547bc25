"""How much faster a block-pruned product is than a dense one; ratios of one run.

python -m benchmarks.bench_block_sparse [--size=4096] [--batch=256] [--block=64]
    [--sparsities=0.5,0.75,0.9,0.95] [--plot=FILE.png] [--model_batch=64]

Beside XLA's dense product: `scipy.sparse` BSR and `jax.experimental.sparse` BCSR of the same
matrix, the ideal 1 / density, then the forward passes of a 4096-wide MLP and
of VGG-16, block-pruned and frozen. On a Hopper GPU instead: bfloat16 products beside cuBLAS, and
both models in bfloat16, of sizes of their own: of the flags only --sparsities and --calls count
there. Medians of calls that take turns; on such a GPU many runs are one program, so that starting
them costs nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags
from jax.experimental import sparse

import compress_jax as cj
from benchmarks.timing import looped, medians
from compress_jax.kernels.block_sparse import gpu
from experiments import models
from experiments.reporting import paper_tables
from experiments.reporting.figures import figure

_SIZE = flags.DEFINE_integer("size", 4096, "Rows and columns of the matrix.")
_BATCH = flags.DEFINE_integer("batch", 256, "Rows of x.")
_BLOCK = flags.DEFINE_integer("block", 64, "Side of a block.")
_MODEL_BATCH = flags.DEFINE_integer("model_batch", 64, "Rows of the MLP's input.")
_CALLS = flags.DEFINE_integer("calls", 15, "Timed calls of each.")
_MODEL_CALLS = flags.DEFINE_integer("model_calls", 5, "Timed calls of VGG-16.")
_SLOW = flags.DEFINE_integer("slow_calls", 2, "Timed calls of BSR and BCSR.")
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.5", "0.75", "0.9", "0.95"], "Of the blocks.")
_PLOT = flags.DEFINE_string("plot", None, "Where to write the picture, a PNG.")
_PER_CALL = 20  # runs of one program on a GPU


def main(_: Sequence[str]) -> None:
  """Prints all measurements, and draws the first if a picture is asked for."""
  if gpu.available():
    on_hopper()
  else:
    on_cpu()


def on_cpu() -> None:
  """Prints float32 products beside other libraries', and both models."""
  rows = []
  print(paper_tables.head(["sparsity", "dense ms", "ours ms", "ours", "ideal", "scipy BSR",
                           "BCSR"]))
  for sparsity in map(float, _SPARSITIES.value):
    row = {"sparsity": sparsity, **products(sparsity)}
    rows.append(row)
    print(paper_tables.line([
        f"{sparsity:.0%}", f"{1e3 * row['dense']:.1f}", f"{1e3 * row['ours']:.1f}",
        f"{row['dense'] / row['ours']:.2f}", f"{1 / (1 - sparsity):.1f}",
        f"{row['dense'] / row['bsr']:.2f}", f"{row['dense'] / row['bcsr']:.3f}"]), flush=True)
  for sparsity in (0.9, 0.95):
    _print_model("MLP 4096-4096-4096-10", _MODEL_BATCH.value, sparsity,
                 mlp(sparsity, _MODEL_BATCH.value))
  _print_model("VGG-16, CIFAR-10's shape", _MODEL_BATCH.value, 0.9, vgg(0.9, _MODEL_BATCH.value))
  if _PLOT.value:
    plot(rows, Path(_PLOT.value))


def on_hopper() -> None:
  """Prints bfloat16 products beside cuBLAS, as a part of the ideal speed-up, and both models."""
  print(paper_tables.head(["size", "block", "sparsity", "cuBLAS ms", "ours ms", "ours",
                           "part of the ideal"]))
  for size, block, sparsity in itertools.product(
      (4096, 8192), (64, 128), map(float, _SPARSITIES.value)):
    times = _bfloat16(size, block, sparsity)
    faster = times["dense"] / times["ours"]
    print(paper_tables.line([
        str(size), str(block), f"{sparsity:.0%}", f"{1e3 * times['dense']:.3f}",
        f"{1e3 * times['ours']:.3f}", f"{faster:.2f}", f"{faster * (1 - sparsity):.2f}"]),
        flush=True)
  for batch in (64, 4096):
    _print_model("MLP 4096-4096-4096-10", batch, 0.9, mlp(0.9, batch, jnp.bfloat16))
  for batch in (64, 1024):
    _print_model("VGG-16, CIFAR-10's shape", batch, 0.9, vgg(0.9, batch, jnp.bfloat16))


def _print_model(name: str, batch: int, sparsity: float, times: Mapping[str, float]) -> None:
  dense, ours = times["dense"], times["ours"]
  print(f"{name}, batch {batch}, {sparsity:.0%} pruned: dense {1e3 * dense:.3g} ms, frozen "
        f"{1e3 * ours:.3g} ms, {dense / ours:.2f} times faster", flush=True)


def products(sparsity: float) -> dict[str, float]:
  """Returns the median seconds of every way to multiply: dense, ours, bsr and bcsr.

  Args:
    sparsity: of the blocks, 0 to below 1.
  """
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (_BATCH.value, _SIZE.value))
  w = jax.random.normal(keys[1], (_SIZE.value, _SIZE.value))
  block = (_BLOCK.value, _BLOCK.value)
  leaf = cj.freeze(cj.prune.block({"w": w}, sparsity, block=block))["w"]
  dense = leaf.dense()
  # The sparse matrix is the left factor for both libraries: everything is transposed.
  turned = np.ascontiguousarray(np.asarray(x).T)
  turned_on_device = jnp.asarray(turned)
  bsr = scipy.sparse.bsr_matrix(np.asarray(dense.T), blocksize=block)
  bcsr = sparse.BCSR.from_scipy_sparse(scipy.sparse.csr_matrix(np.asarray(dense.T)))
  compiled = jax.jit(jnp.matmul)
  ours, from_left = jax.jit(cj.kernels.block_sparse.matmul), jax.jit(lambda w, x: w @ x)
  expected = np.asarray(compiled(x, dense))
  np.testing.assert_allclose(ours(x, leaf), expected, atol=1e-5 * np.abs(expected).max())
  times = medians({"dense": lambda: compiled(x, dense), "ours": lambda: ours(x, leaf)},
                  _CALLS.value)
  # Apart and fewer: these take seconds.
  return times | medians({"bsr": lambda: bsr @ turned,
                          "bcsr": lambda: from_left(bcsr, turned_on_device)}, _SLOW.value)


def _bfloat16(size: int, block: int, sparsity: float) -> dict[str, float]:
  """Returns the median seconds of a square product in bfloat16, dense and ours."""
  keys = jax.random.split(jax.random.key(0), 2)
  x, w = (jax.random.normal(key, (size, size), jnp.bfloat16) for key in keys)
  leaf = cj.freeze(cj.prune.block({"w": w}, sparsity, block=(block, block)))["w"]
  return _beside(jnp.dot, w, cj.kernels.block_sparse.matmul, leaf, x, _CALLS.value)


def _beside(dense: Any, full: Any, ours: Any, frozen: Any, x: jax.Array,
            calls: int) -> dict[str, float]:
  """Returns the median seconds of a dense function and of ours.

  Args:
    dense: takes x and `full`.
    full: the weights.
    ours: takes x and `frozen`.
    frozen: the weights, block-sparse.
    x: what both are applied to.
    calls: timed, of each.
  """
  count = _PER_CALL if gpu.available() else 1
  runs = {"dense": looped(dense, count), "ours": looped(ours, count)}
  times = medians({"dense": lambda: runs["dense"](x, full),
                   "ours": lambda: runs["ours"](x, frozen)}, calls)
  return {name: seconds / count for name, seconds in times.items()}


def mlp(sparsity: float, batch: int, dtype: Any = jnp.float32) -> dict[str, float]:
  """Returns the median seconds of the dense and of the frozen block-pruned MLP.

  Args:
    sparsity: of the blocks, 0 to below 1.
    batch: rows of the input.
    dtype: of weights and input.
  """
  keys = jax.random.split(jax.random.key(1), 4)
  shapes = {"layer0": (4096, 4096), "layer1": (4096, 4096), "layer2": (4096, 10)}
  params = {name: jax.random.normal(key, shape, dtype) / 64
            for key, (name, shape) in zip(keys[:3], shapes.items(), strict=True)}

  def apply(x: jax.Array, p: Any) -> jax.Array:
    x = jax.nn.relu(x @ p["layer0"])
    x = jax.nn.relu(x @ p["layer1"])
    return x @ p["layer2"]

  x = jax.random.normal(keys[3], (batch, 4096), dtype)
  # The last layer has fewer columns than a block.
  frozen = cj.freeze(cj.prune.block(params, sparsity, block=(64, 64), where="layer[01]"))
  return _beside(apply, params, cj.lift(apply), frozen, x, _CALLS.value)


def vgg(sparsity: float, batch: int, dtype: Any = jnp.float32) -> dict[str, float]:
  """Returns the median seconds of VGG-16's dense and frozen block-pruned forward passes.

  Args:
    sparsity: of the blocks, 0 to below 1.
    batch: images.
    dtype: of the computation.
  """
  model = models.create("vgg", num_classes=10, dtype=jnp.dtype(dtype).name)
  x = jax.random.normal(jax.random.key(0), (batch, 32, 32, 3))
  variables = model.init(jax.random.key(0), x[:1])
  # The first layer's patches have 27 entries: less than a block.
  pruned = cj.prune.block(variables["params"], sparsity, block=(_BLOCK.value, _BLOCK.value),
                          scope="layer", where=r"group(?!0_layer0).*/conv/kernel")
  full = {**variables, "params": cj.dense(pruned)}
  frozen = {**variables, "params": cj.freeze(pruned)}

  def apply(x: jax.Array, variables: Any) -> jax.Array:
    return model.apply(variables, x, train=False)

  expected = np.asarray(jax.jit(apply)(x, full), np.float32)
  # Of bfloat16 sixteen layers are off by some hundredths.
  near = 1e-4 if dtype == jnp.float32 else 5e-2
  np.testing.assert_allclose(np.asarray(jax.jit(cj.lift(apply))(x, frozen), np.float32), expected,
                             atol=near * np.abs(expected).max())
  return _beside(apply, full, cj.lift(apply), frozen, x, _MODEL_CALLS.value)


def plot(rows: Sequence[Mapping[str, float]], path: Path) -> None:
  """Draws the speed-up against sparsity, with the ideal.

  Args:
    rows: of `products`, with their sparsity.
    path: a PNG file.
  """
  pruned = [100 * row["sparsity"] for row in rows]
  with figure(path, size=(6, 4)) as axes:
    axes.plot(pruned, [1 / (1 - row["sparsity"]) for row in rows], "--", color="0.5",
              label="ideal, 1 / density")
    for key, mark, label in (("ours", "o-", "block-sparse"), ("bsr", "s-", "scipy BSR"),
                             ("bcsr", "^-", "jax.experimental BCSR")):
      axes.plot(pruned, [row["dense"] / row[key] for row in rows], mark, label=label)
    axes.axhline(1, color="0.8", lw=1)
    axes.set(xlabel="blocks pruned, %", ylabel="times faster than dense", yscale="log",
             title=f"{_BATCH.value} x {_SIZE.value} x {_SIZE.value}, float32, {_BLOCK.value} x "
                   f"{_BLOCK.value} blocks")
    axes.legend()


if __name__ == "__main__":
  app.run(main)

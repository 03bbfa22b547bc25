"""How much faster a block-pruned product is than a dense one; ratios of one run.

python -m benchmarks.bench_block_sparse [--size=4096] [--batch=256] [--block=64]
    [--sparsities=0.5,0.75,0.9,0.95] [--plot=FILE.png] [--model_batch=64]

Beside XLA's dense product: `scipy.sparse` BSR and `jax.experimental.sparse` BCSR of the same
matrix, the ideal 1 / density, then the forward passes of a 4096-wide MLP and
of VGG-16, block-pruned and frozen; on a Hopper GPU bfloat16 products
beside cuBLAS. Medians of calls that take turns.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags
from jax.experimental import sparse

import compress_jax as cj
from benchmarks.timing import in_turns
from compress_jax.kernels.block_sparse import gpu
from experiments import models

_SIZE = flags.DEFINE_integer("size", 4096, "Rows and columns of the matrix.")
_BATCH = flags.DEFINE_integer("batch", 256, "Rows of x.")
_BLOCK = flags.DEFINE_integer("block", 64, "Side of a block.")
_MODEL_BATCH = flags.DEFINE_integer("model_batch", 64, "Rows of the MLP's input.")
_CALLS = flags.DEFINE_integer("calls", 15, "Timed calls of each.")
_MODEL_CALLS = flags.DEFINE_integer("model_calls", 5, "Timed calls of VGG-16.")
_SLOW = flags.DEFINE_integer("slow_calls", 2, "Timed calls of BSR and BCSR.")
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.5", "0.75", "0.9", "0.95"], "Of the blocks.")
_PLOT = flags.DEFINE_string("plot", None, "Where to write the picture, a PNG.")


def main(_) -> None:
  rows = [products(float(s)) for s in _SPARSITIES.value]
  print("| sparsity | dense ms | ours ms | ours | ideal | scipy BSR | BCSR |")
  print("|---|---|---|---|---|---|---|")
  for r in rows:
    print(f"| {r['sparsity']:.0%} | {1e3 * r['dense']:.1f} | {1e3 * r['ours']:.1f} "
          f"| {r['dense'] / r['ours']:.2f} | {1 / (1 - r['sparsity']):.1f} "
          f"| {r['dense'] / r['bsr']:.2f} | {r['dense'] / r['bcsr']:.3f} |")
  for sparsity in (0.9, 0.95):
    dense, ours = mlp(sparsity)
    print(f"MLP 4096-4096-4096-10, batch {_MODEL_BATCH.value}, {sparsity:.0%} pruned: dense "
          f"{1e3 * dense:.1f} ms, frozen {1e3 * ours:.1f} ms, {dense / ours:.2f} times faster")
  dense, ours = vgg(0.9)
  print(f"VGG-16, CIFAR-10's shape, batch {_MODEL_BATCH.value}, 90% pruned: dense "
        f"{1e3 * dense:.1f} ms, frozen {1e3 * ours:.1f} ms, {dense / ours:.2f} times faster")
  on_hopper()
  if _PLOT.value:
    plot(rows)


def products(sparsity):
  """Returns the median seconds of every way to multiply."""
  keys = jax.random.split(jax.random.key(0), 2)
  x = jax.random.normal(keys[0], (_BATCH.value, _SIZE.value))
  w = jax.random.normal(keys[1], (_SIZE.value, _SIZE.value))
  block = (_BLOCK.value, _BLOCK.value)
  leaf = cj.freeze(cj.prune.block({"w": w}, sparsity, block=block))["w"]
  dense = leaf.dense()
  bsr = scipy.sparse.bsr_matrix(np.asarray(dense.T), blocksize=block)
  turned = np.ascontiguousarray(np.asarray(x).T)
  bcsr = sparse.BCSR.from_scipy_sparse(scipy.sparse.csr_matrix(np.asarray(dense.T)))
  xt = jnp.asarray(turned)
  compiled = jax.jit(lambda x, w: x @ w)
  ours, other = jax.jit(cj.kernels.block_sparse.matmul), jax.jit(lambda w, x: w @ x)
  expected = np.asarray(compiled(x, dense))
  np.testing.assert_allclose(ours(x, leaf), expected, atol=1e-5 * np.abs(expected).max())
  times = in_turns({"dense": lambda: compiled(x, dense), "ours": lambda: ours(x, leaf)},
                   _CALLS.value)
  times |= in_turns({"bsr": lambda: bsr @ turned, "bcsr": lambda: other(bcsr, xt)}, _SLOW.value)
  return {"sparsity": sparsity, **times}


def on_hopper():
  """Prints bfloat16 products on a Hopper GPU beside cuBLAS, as a part of the ideal speed-up."""
  if not gpu.available():
    print("No Hopper GPU here: bfloat16 against cuBLAS was not measured.")
    return
  print("| size | block | sparsity | cuBLAS ms | ours ms | ours | part of the ideal |")
  print("|---|---|---|---|---|---|---|")
  for size, block, sparsity in itertools.product(
      (4096, 8192), (64, 128), map(float, _SPARSITIES.value)):
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = (jax.random.normal(k, (size, size), jnp.bfloat16) for k in keys)
    leaf = cj.freeze(cj.prune.block({"w": w}, sparsity, block=(block, block)))["w"]
    dense, ours = jax.jit(jnp.dot), jax.jit(cj.kernels.block_sparse.matmul)
    times = in_turns({"dense": lambda x=x, w=w, f=dense: f(x, w),
                      "ours": lambda x=x, leaf=leaf, f=ours: f(x, leaf)}, _CALLS.value)
    faster = times["dense"] / times["ours"]
    print(f"| {size} | {block} | {sparsity:.0%} | {1e3 * times['dense']:.3f} "
          f"| {1e3 * times['ours']:.3f} | {faster:.2f} | {faster * (1 - sparsity):.2f} |")


def mlp(sparsity):
  """Returns the median seconds of the dense and of the frozen block-pruned MLP."""
  keys = jax.random.split(jax.random.key(1), 4)
  params = {f"layer{i}": jax.random.normal(keys[i], (4096, 4096 if i < 2 else 10)) / 64
            for i in range(3)}

  def apply(p, x):
    for i in range(2):
      x = jax.nn.relu(x @ p[f"layer{i}"])
    return x @ p["layer2"]

  x = jax.random.normal(keys[3], (_MODEL_BATCH.value, 4096))
  frozen = cj.freeze(cj.prune.block(params, sparsity, block=(64, 64), where="layer[01]"))
  dense, lifted = jax.jit(apply), jax.jit(cj.lift(apply))
  times = in_turns({"dense": lambda: dense(params, x), "ours": lambda: lifted(frozen, x)},
                   _CALLS.value)
  return times["dense"], times["ours"]


def vgg(sparsity):
  """Returns the median seconds of VGG-16's dense and frozen block-pruned forward passes."""
  model = models.create("vgg", num_classes=10)
  x = jax.random.normal(jax.random.key(0), (_MODEL_BATCH.value, 32, 32, 3))
  variables = model.init(jax.random.key(0), x[:1])
  # The first layer's patches have 27 entries: less than a block.
  pruned = cj.prune.block(variables["params"], sparsity, block=(_BLOCK.value, _BLOCK.value),
                          scope="layer", where=r"group(?!0_layer0).*/conv/kernel")
  full, frozen = ({**variables, "params": p} for p in (cj.dense(pruned), cj.freeze(pruned)))
  apply = lambda variables, x: model.apply(variables, x, train=False)
  dense, lifted = jax.jit(apply), jax.jit(cj.lift(apply))
  expected = np.asarray(dense(full, x))
  np.testing.assert_allclose(lifted(frozen, x), expected, atol=1e-4 * np.abs(expected).max())
  times = in_turns({"dense": lambda: dense(full, x), "ours": lambda: lifted(frozen, x)},
                   _MODEL_CALLS.value)
  return times["dense"], times["ours"]


def plot(rows):
  """Draws the speed-up against sparsity, with the ideal."""
  import matplotlib
  matplotlib.use("Agg")
  from matplotlib import pyplot as plt
  at = [100 * r["sparsity"] for r in rows]
  fig, ax = plt.subplots(figsize=(6, 4), layout="constrained")
  ideal = [1 / (1 - r["sparsity"]) for r in rows]
  ax.plot(at, ideal, "--", color="0.5", label="ideal, 1 / density")
  ax.plot(at, [r["dense"] / r["ours"] for r in rows], "o-", label="block-sparse")
  ax.plot(at, [r["dense"] / r["bsr"] for r in rows], "s-", label="scipy BSR")
  ax.plot(at, [r["dense"] / r["bcsr"] for r in rows], "^-", label="jax.experimental BCSR")
  ax.axhline(1, color="0.8", lw=1)
  ax.set(xlabel="blocks pruned, %", ylabel="times faster than dense", yscale="log",
         title=f"{_BATCH.value} x {_SIZE.value} x {_SIZE.value}, float32, {_BLOCK.value} x "
               f"{_BLOCK.value} blocks")
  ax.legend()
  fig.savefig(_PLOT.value, dpi=120)


if __name__ == "__main__":
  app.run(main)

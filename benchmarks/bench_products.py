"""Integer against float and sparse against dense products, beside the analysis paper's figures.

python -m benchmarks.bench_products [--calls=9]

"Analysis of compression methods", takeaways 9 and 10: the paper ran kernels of its
own and cuSPARSE on a GPU; this runs XLA, and scipy for unstructured sparsity, on
whatever is here. Ratios of one run.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags

import compress_jax as cj
from benchmarks.timing import in_turns

_CALLS = flags.DEFINE_integer("calls", 9, "Timed calls of each.")
_BLOCK = flags.DEFINE_integer("block", 50, "Side of a block of the sparse matrices.")
PAPER = Path(__file__).parents[1] / "experiments/studies/takeaways/paper.json"


def main(_) -> None:
  paper = json.loads(PAPER.read_text())
  print("| product | ms | times faster | paper: ms | paper: times faster |")
  print("|---|---|---|---|---|")
  integers(paper["takeaway 9"])
  sparse(paper["takeaway 10"])


def integers(paper):
  """Prints takeaway 9: the same product of floats and of 8-bit integers."""
  rows, inner, columns = paper["shape"]
  rng = np.random.default_rng(0)
  a, b = (jnp.asarray(rng.integers(-127, 128, s, np.int8))
          for s in ((rows, inner), (inner, columns)))
  floats = [x.astype(jnp.float32) for x in (a, b)]
  run = jax.jit(lambda a, b, kind: jax.lax.dot(a, b, preferred_element_type=kind),
                static_argnums=2)
  times = in_turns({"float": lambda: run(*floats, "float32"),
                    "integer": lambda: run(a, b, "int32")}, _CALLS.value)
  name = f"{rows} x {inner} x {columns}"
  row(f"{name}, float32", times["float"], 1, paper["float ms"], 1)
  row(f"{name}, int8", times["integer"], times["float"] / times["integer"], paper["integer ms"],
      paper["float ms"] / paper["integer ms"])


def sparse(paper):
  """Prints takeaway 10: square products at three sparsities, in blocks and unstructured."""
  size, block = paper["size"], (_BLOCK.value,) * 2
  keys = jax.random.split(jax.random.key(0), 2)
  x, w = (jax.random.normal(k, (size, size)) for k in keys)
  turned = np.asarray(x.T)
  dense, ours = jax.jit(jnp.dot), jax.jit(cj.kernels.block_sparse.matmul)
  for i, (sparsity, milliseconds) in enumerate(paper["sparse ms"].items()):
    s = float(sparsity)
    leaf = cj.freeze(cj.prune.block({"w": w}, s, block=block))["w"]
    scattered = cj.dense(cj.prune.magnitude({"w": w}, s))["w"]
    csr = scipy.sparse.csr_matrix(np.asarray(scattered.T))
    times = in_turns({"dense": lambda: dense(x, w), "ours": lambda leaf=leaf: ours(x, leaf),
                      "csr": lambda csr=csr: csr @ turned}, _CALLS.value)
    if i == 0:
      row(f"{size} x {size} x {size}, dense", times["dense"], 1, paper["dense ms"], 1)
    faster = paper["dense ms"] / milliseconds
    row(f"{s:.0%} pruned, blocks of {block[0]}", times["ours"], times["dense"] / times["ours"],
        milliseconds, faster)
    row(f"{s:.0%} pruned, unstructured (scipy CSR)", times["csr"], times["dense"] / times["csr"],
        milliseconds, faster)


def row(name, seconds, faster, paper_ms, paper_faster):
  print(f"| {name} | {1e3 * seconds:.2f} | {faster:.2f} | {paper_ms:.2f} | {paper_faster:.2f} |")


if __name__ == "__main__":
  app.run(main)

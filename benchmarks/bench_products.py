"""Integer against float and sparse against dense products, beside the analysis paper's figures.

python -m benchmarks.bench_products [--calls=9]

"Analysis of compression methods", takeaways 9 and 10: the paper ran kernels of its
own and cuSPARSE on a GPU; this runs XLA, and scipy for unstructured sparsity, on
whatever is here. Ratios of one run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from absl import app, flags

import compress_jax as cj
from benchmarks.timing import medians
from experiments.reporting import paper_tables

_CALLS = flags.DEFINE_integer("calls", 9, "Timed calls of each.")
_BLOCK = flags.DEFINE_integer("block", 50, "Side of a block of the sparse matrices.")


def main(_: Sequence[str]) -> None:
  """Prints both takeaways as one table."""
  paper = paper_tables.paper("takeaways")
  print(paper_tables.head(["product", "ms", "times faster", "paper: ms", "paper: times faster"]))
  integers(paper["takeaway 9"])
  sparse(paper["takeaway 10"])


def integers(paper: Mapping[str, Any]) -> None:
  """Prints takeaway 9: the same product of floats and of 8-bit integers.

  Args:
    paper: the shape that it multiplied, and its milliseconds.
  """
  rows, inner, columns = paper["shape"]
  rng = np.random.default_rng(0)
  a = jnp.asarray(rng.integers(-127, 128, (rows, inner), np.int8))
  b = jnp.asarray(rng.integers(-127, 128, (inner, columns), np.int8))
  float_a, float_b = a.astype(jnp.float32), b.astype(jnp.float32)
  run = jax.jit(jax.lax.dot, static_argnames="preferred_element_type")
  times = medians({
      "float": lambda: run(float_a, float_b, preferred_element_type="float32"),
      # Sums of int8 products need 32 bits.
      "integer": lambda: run(a, b, preferred_element_type="int32")}, _CALLS.value)
  name = f"{rows} x {inner} x {columns}"
  print_row(f"{name}, float32", times["float"], 1, paper["float ms"], 1)
  print_row(f"{name}, int8", times["integer"], times["float"] / times["integer"],
            paper["integer ms"], paper["float ms"] / paper["integer ms"])


def sparse(paper: Mapping[str, Any]) -> None:
  """Prints takeaway 10: square products at three sparsities, in blocks and unstructured.

  Args:
    paper: the size that it multiplied, and its milliseconds.
  """
  size = paper["size"]
  keys = jax.random.split(jax.random.key(0), 2)
  x, w = (jax.random.normal(key, (size, size)) for key in keys)
  for i, (sparsity, milliseconds) in enumerate(paper["sparse ms"].items()):
    times = _sparse_times(x, w, float(sparsity))
    if i == 0:
      print_row(f"{size} x {size} x {size}, dense", times["dense"], 1, paper["dense ms"], 1)
    faster = paper["dense ms"] / milliseconds
    print_row(f"{float(sparsity):.0%} pruned, blocks of {_BLOCK.value}", times["ours"],
              times["dense"] / times["ours"], milliseconds, faster)
    print_row(f"{float(sparsity):.0%} pruned, unstructured (scipy CSR)", times["csr"],
              times["dense"] / times["csr"], milliseconds, faster)


def _sparse_times(x: jax.Array, w: jax.Array, sparsity: float) -> dict[str, float]:
  """Returns the median seconds of x times w: dense, pruned in blocks, and unstructured."""
  leaf = cj.freeze(cj.prune.block({"w": w}, sparsity, block=(_BLOCK.value, _BLOCK.value)))["w"]
  scattered = cj.dense(cj.prune.magnitude({"w": w}, sparsity))["w"]
  # scipy's sparse matrix is the left factor: both are transposed, outside of what is timed.
  csr, turned = scipy.sparse.csr_matrix(np.asarray(scattered.T)), np.asarray(x.T)
  dense, ours = jax.jit(jnp.dot), jax.jit(cj.kernels.block_sparse.matmul)
  return medians({"dense": lambda: dense(x, w), "ours": lambda: ours(x, leaf),
                  "csr": lambda: csr @ turned}, _CALLS.value)


def print_row(name: str, seconds: float, faster: float, paper_ms: float,
              paper_faster: float) -> None:
  """Prints one line of the table.

  Args:
    name: of the product.
    seconds: that it took.
    faster: times faster than dense floats.
    paper_ms: milliseconds that it took in the paper.
    paper_faster: times faster than dense floats, in the paper.
  """
  print(paper_tables.line([name, f"{1e3 * seconds:.2f}", f"{faster:.2f}", f"{paper_ms:.2f}",
                           f"{paper_faster:.2f}"]), flush=True)


if __name__ == "__main__":
  app.run(main)

"""The block-sparse product: picks a backend, has gradients, runs in any program."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from compress_jax.kernels.block_sparse import check, reference
from compress_jax.leaves.base import Array
from compress_jax.leaves.block_sparse import BlockSparse

# Whose Pallas kernel each backend runs; XLA has none.
_KERNELS = {"gpu": "gpu", "tpu": "tpu", "tpu_interpret": "tpu"}
BACKENDS = (*_KERNELS, "xla")


def matmul(x: Array, w: BlockSparse, *, backend: str | None = None,
           out_dtype: DTypeLike | None = None) -> Array:
  """Returns x @ W, where only the stored blocks are multiplied.

  On a Hopper GPU and on a TPU the Pallas kernel runs if it takes the block's shape
  and the dtypes; everything else takes XLA, block by block too: never a dense product,
  also where that would be faster, as on GPUs (`benchmarks/README.md`).

  Args:
    x: (..., inputs), float32, bfloat16, float16 or int8.
    w: the weight; a kernel counts as the matrix of its last axis against all
      others. Integer blocks are scaled after the sum.
    backend: "xla", "gpu", "tpu" or "tpu_interpret" (the TPU's kernel on any
      device, slowly); None picks.
    out_dtype: of the result, a float: what `preferred_element_type` is to `lax.dot`.
      Sums are in float32, or int32, and rounded to it once. None is x's dtype; float32
      if x is int8 (int32 if w has no scale).

  Returns:
    (..., outputs) of `out_dtype`. Differentiable in x and in float blocks: a gradient
    has the blocks' shape.

  Raises:
    ValueError: operands that do not belong together, indices that are out of
      range, unsorted or repeated, a backend that cannot run them, or a result that is
      no float.

  Source: Gray, Radford and Kingma 2017, "GPU kernels for block-sparse weights".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = cj.BlockSparse.from_dense(jnp.eye(4), block=(2, 2))
    >>> matmul(jnp.arange(4.0)[None], w).tolist()
    [[0.0, 1.0, 2.0, 3.0]]
  """
  check.operands(x, w)
  check.result(out_dtype)
  flat = _filled_up(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), w)
  if not flat.shape[0]:
    flat = jnp.zeros((1, flat.shape[1]), flat.dtype)  # no batch: one row, dropped below
  # Without arrays the leaf is hashable: what a derivative depends on, but is not taken by.
  bare = dataclasses.replace(w, blocks=None, rows=None, scale=None, input=None)
  how = picked(backend, x, w), _rounded_to(x, w, out_dtype)
  total = _product(*how, bare, flat, w.blocks, w.rows)[:math.prod(x.shape[:-1])]
  return scaled(total, x, w, out_dtype).reshape(*x.shape[:-1], w.matrix[1])


def _rounded_to(x: Array, w: BlockSparse, out_dtype: DTypeLike | None) -> str | None:
  """Returns the dtype of 16 bits that a kernel may round sums to before it writes them, if any."""
  out = jnp.dtype(x.dtype if out_dtype is None else out_dtype)
  # A scale needs the sums as they are.
  return out.name if w.scale is None and out.name in ("bfloat16", "float16") else None


def scaled(total: Array, x: Array, w: BlockSparse, out_dtype: DTypeLike | None = None) -> Array:
  """Returns the product, from what a backend sums.

  Args:
    total: (rows, outputs filled up to whole blocks), float32 or int32.
    x: the operand; only its dtype is used.
    w: the weight, whose scale is applied.
    out_dtype: as for `matmul`.

  Returns:
    (rows, outputs), of `out_dtype`.
  """
  total = total[:, :w.matrix[1]]
  if w.scale is not None:
    total = total.astype(jnp.float32) * w.scale
  if out_dtype is not None:
    return total.astype(out_dtype)
  # int8 could not hold what integers sum to.
  return total if jnp.issubdtype(x.dtype, jnp.integer) else total.astype(x.dtype)


def picked(backend: str | None, x: Array, w: BlockSparse) -> str:
  """Returns the backend that runs x @ w.

  Args:
    backend: the one that is asked for; None picks.
    x: an operand; only its dtype is used.
    w: the weight.

  Returns:
    One of `BACKENDS`.

  Raises:
    ValueError: there is no such backend, or it cannot run this product.
  """
  if backend is None:
    return _fastest(x, w)
  if backend not in BACKENDS:
    raise ValueError(f"backend={backend!r}: must be one of {', '.join(BACKENDS)}")
  refusal = _refusal(backend, x, w)
  if refusal is not None:
    raise ValueError(refusal)
  return backend


def _refusal(backend: str, x: Array, w: BlockSparse) -> str | None:
  """Returns why a backend cannot run x @ w, or None if it can."""
  if backend == "tpu_interpret":
    return _kernel(backend).supports(x, w, compiled=False)
  return _kernel(backend).supports(x, w) if backend in _KERNELS else None


def _fastest(x: Array, w: BlockSparse) -> str:
  """Returns the default device's own kernel if it takes this product, else XLA."""
  device = jax.default_backend()
  if device not in ("gpu", "tpu"):
    return "xla"
  # All TPUs run their kernel, of GPUs only some.
  if device == "gpu" and not _kernel("gpu").available():
    return "xla"
  return device if _refusal(device, x, w) is None else "xla"


def _kernel(backend: str) -> Any:
  """Returns the module of a Pallas kernel; imported late, as Pallas takes half a second."""
  return importlib.import_module(f"compress_jax.kernels.block_sparse.{_KERNELS[backend]}")


# Cached, since programs are compiled again for another function, even if it is equal.
@functools.cache
def _runner(backend: str, out: str | None) -> Callable[[Array, BlockSparse], Array]:
  """Returns the backend's function from x and w to sums over blocks, of dtype `out` if it can."""
  if backend == "xla":
    return reference.matmul
  if backend == "gpu":
    return functools.partial(_kernel(backend).matmul, out=out)
  return functools.partial(_kernel(backend).matmul, interpret=backend == "tpu_interpret")


def _filled_up(x: Array, w: BlockSparse) -> Array:
  """Returns x with zeros for the rows that the last blocks have beyond the matrix."""
  return jnp.pad(x, ((0, 0), (0, -x.shape[1] % w.block[0])))


def _sums(backend: str, out: str | None, bare: BlockSparse, x: Array, blocks: Array,
          rows: Array) -> Array:
  return _runner(backend, out)(x, dataclasses.replace(bare, blocks=blocks, rows=rows))


# Pallas kernels with indices read ahead have no derivative of their own.
_product = jax.custom_vjp(_sums, nondiff_argnums=(0, 1, 2))


def _forward(backend: str, out: str | None, bare: BlockSparse, x: Array, blocks: Array,
             rows: Array) -> tuple[Array, Any]:
  return _product(backend, out, bare, x, blocks, rows), (x, blocks, rows)


def _backward(backend: str, out: str | None, bare: BlockSparse, saved: Any,
              g: Array) -> tuple[Any, ...]:
  x, blocks, rows = saved
  w = dataclasses.replace(bare, blocks=blocks, rows=rows)
  # Of a float32 result, or of sums that are scaled later, float16 has no room for it.
  g = g.astype(jnp.promote_types(x.dtype, out or jnp.float32))
  dx = _input_gradient(backend, _rounded_to(x, bare, None), g, w)
  if jnp.issubdtype(blocks.dtype, jnp.floating):
    db = reference.block_gradient(x, g, w).astype(blocks.dtype)
  else:
    db = np.zeros(blocks.shape, jax.dtypes.float0)  # what JAX takes for integers' gradient
  return dx.astype(x.dtype), db, None


def _input_gradient(backend: str, out: str | None, g: Array, w: BlockSparse) -> Array:
  """Returns g @ W transposed, by the backend if it takes that product too, else by XLA."""
  if not w.row_counts:  # parts of a sharded weight have none in common
    return reference.input_gradient(g, w)
  flipped = w.flipped()
  # Blocks are turned, and g may be float32 where x is not.
  able = backend if _refusal(backend, g, flipped) is None else "xla"
  return _runner(able, out)(g, flipped)


_product.defvjp(_forward, _backward)

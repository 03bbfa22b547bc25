"""Products and convolutions with block-sparse weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from compress_jax.kernels.block_sparse import conv, matmul
from compress_jax.kernels.block_sparse.check import DTYPES
from compress_jax.leaves import BlockSparse
from compress_jax.leaves.base import Array
from compress_jax.leaves.grid import codes
from compress_jax.lift.contraction import Contraction, Conv, Dot
from compress_jax.lift.registry import NoRule, Ref, as_no_rule
from compress_jax.lift.surrogate import rounded, with_gradient_of


def block_sparse(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `BlockSparse` weight.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result; a custom derivative stays its author's.

  Raises:
    NoRule: the contraction is no product with the weight's matrix, or its operand is of a
      dtype that no kernel has.
  """
  leaf = w.leaf
  if x.dtype.name not in DTYPES:
    raise NoRule(op.primitive.name, w.path, f"an operand of {x.dtype}, for which there is no "
                 f"kernel; must be one of {', '.join(DTYPES)}")
  if leaf.input is None:
    w = dataclasses.replace(w, leaf=_kept(leaf))
    value = _floats(op, x, w)
    if op.outer is None:
      return value  # differentiable as it is
    rounded_x = x
  else:
    value = _integers(op, x, w)
    rounded_x = leaf.input.for_input(x).fake_quantize(x).astype(x.dtype)
  surrogate = _floats(op, rounded_x, w) if op.outer is None else op(rounded_x, w.dense())
  return with_gradient_of(lax.stop_gradient(value).astype(op.dtype), surrogate.astype(op.dtype))


def _kept(leaf: BlockSparse) -> BlockSparse:
  """Returns the leaf; what is 0 within its blocks is pruned, and has no gradient."""
  if not jnp.issubdtype(leaf.blocks.dtype, jnp.floating):
    return leaf
  kept = jnp.where(leaf.blocks != 0, leaf.blocks, 0)
  return leaf.replace(blocks=with_gradient_of(leaf.blocks, kept))


def _floats(op: Contraction, x: Array, w: Ref) -> Array:
  return _applied(op, x, w, jnp.zeros((), x.dtype))


def _integers(op: Contraction, x: Array, w: Ref) -> Array:
  """Accumulates int8 products in int32; then one rescale, as in `affine`."""
  leaf, grid = w.leaf, w.leaf.input.for_input(x)
  most = leaf.matrix[0] * 255 * 127
  if most >= 2**31:
    raise NoRule(op.primitive.name, w.path, f"{leaf.matrix[0]} products may leave int32")
  bare = dataclasses.replace(w, leaf=leaf.replace(scale=None, input=None))
  q = codes(grid.quantize_to_grid(x), grid.zero_point, jnp.int8)
  zero = jnp.int8(0) if grid.zero_point is None else grid.zero_point.astype(jnp.int8)
  total = _applied(op, q, bare, zero)
  sums = _column_sums(leaf)
  if grid.zero_point is not None:
    total = total - grid.zero_point * _laid_out(op, sums, w, total.ndim)
  scale = jnp.broadcast_to(leaf.scale, sums.shape)
  return rounded(total.astype(jnp.float32) * (grid.scale * _laid_out(op, scale, w, total.ndim)))


def _column_sums(leaf: BlockSparse) -> Array:
  """Returns the sum of every column of the matrix: int32, (outputs,)."""
  by_block = leaf.blocks.astype(jnp.int32).sum(1)
  sums = jax.ops.segment_sum(by_block, leaf.columns(), leaf.tiles[1])
  return sums.reshape(-1)[:leaf.matrix[1]]


def _laid_out(op: Contraction, s: Array, w: Ref, ndim: int) -> Array:
  """Lays what every output has out as the result's axes."""
  return op.per_output(s.reshape(*(1,) * (op.ndim - 1), -1), w.path, ndim)


def _applied(op: Contraction, x: Array, w: Ref, zero: Array) -> Array:
  # Sums of integers come as they are, for the one rescale.
  out = op.dtype if jnp.issubdtype(x.dtype, jnp.floating) else None
  if isinstance(op, Conv):
    return _convolution(op, x, w, zero, out)
  if not isinstance(op, Dot) or not op.is_matrix() or len(w.leaf.shape) != 2:
    raise NoRule(op.primitive.name, w.path, "its blocks take a product with the matrix, no batch")
  ((axis,), (x_axis,)) = op.contracted(), op.x_axes()
  x = jnp.moveaxis(x, x_axis, -1)
  if axis == 1 and jnp.issubdtype(x.dtype, jnp.integer):
    raise op.varying_scale(w.path)
  out = matmul(x, w.leaf if axis == 0 else _turned(w), out_dtype=out)
  return jnp.moveaxis(out, -1, 0) if op.on_left else out


def _turned(w: Ref) -> BlockSparse:
  """Returns the transposed weight."""
  with as_no_rule("transpose", w.path):
    return w.leaf.transposed((1, 0))


def _convolution(op: Conv, x: Array, w: Ref, zero: Array, out: DTypeLike | None) -> Array:
  """Convolves in the one layout that blocks tile."""
  spec, p = op.params["dimension_numbers"], op.params
  nhwc = (0, x.ndim - 1, *range(1, x.ndim - 1))
  hwio = (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
  if (spec.lhs_spec, spec.rhs_spec, spec.out_spec) != (nhwc, hwio, nhwc) or op.grouped():
    raise NoRule(op.primitive.name, w.path, "its blocks take NHWC by HWIO convolutions, one group")
  x, plain = op.pad(x, zero)
  return conv(x, w.leaf, strides=plain.params["window_strides"], dilation=p["rhs_dilation"],
              out_dtype=out)

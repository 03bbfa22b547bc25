"""Products and convolutions with block-sparse weights."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax

from compress_jax.kernels.block_sparse import conv, matmul
from compress_jax.kernels.block_sparse.reference import transposed
from compress_jax.leaves import BlockSparse
from compress_jax.leaves.base import Array
from compress_jax.leaves.grid import codes
from compress_jax.lift.contraction import Contraction, Conv
from compress_jax.lift.registry import NoRule, Ref
from compress_jax.lift.surrogate import rounded, with_gradient_of


def block_sparse(op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `BlockSparse` weight.

  Args:
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result; a custom derivative stays its author's.

  Raises:
    NoRule: the contraction is no product with the weight's matrix.
  """
  leaf = w.leaf
  plain = lambda x: _applied(op, x, w, jnp.zeros((), x.dtype))
  if op.outer is None and leaf.input is None:
    return plain(x)
  value = plain(x) if leaf.input is None else _integers(op, x, w)
  fake = x if leaf.input is None else leaf.input.of(x).fake(x).astype(x.dtype)
  surrogate = plain(fake) if op.outer is None else op(fake, w.dense())
  return with_gradient_of(lax.stop_gradient(value).astype(op.dtype), surrogate.astype(op.dtype))


def _integers(op: Contraction, x: Array, w: Ref) -> Array:
  """Accumulates int8 products in int32; then one rescale, as `rules.affine` does."""
  leaf, grid = w.leaf, w.leaf.input.of(x)
  most = leaf.matrix[0] * 255 * 127
  if most >= 2**31:
    raise NoRule(op.primitive.name, w.path, f"{leaf.matrix[0]} products may leave int32")
  bare = dataclasses.replace(w, leaf=dataclasses.replace(leaf, scale=None, input=None))
  q = codes(grid.steps(x), grid.zero_point, jnp.int8)
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
  if isinstance(op, Conv):
    return _convolution(op, x, w, zero)
  if not op.is_matrix() or len(w.leaf.shape) != 2:
    raise NoRule(op.primitive.name, w.path, "its blocks take a product with the matrix, no batch")
  ((axis,), (x_axis,)) = op.contracted(), op.x_axes()
  x = jnp.moveaxis(x, x_axis, -1)
  if axis == 1 and jnp.issubdtype(x.dtype, jnp.integer):
    raise NoRule(op.primitive.name, w.path, "its scale varies along the summed axis")
  out = matmul(x, w.leaf if axis == 0 else turned(w.leaf, w.path))
  return jnp.moveaxis(out, -1, 0) if op.on_left else out


def turned(leaf: BlockSparse, path: str) -> BlockSparse:
  """Returns the transposed leaf, of floats: what scales outputs cannot scale inputs.

  Args:
    leaf: of two dimensions.
    path: for the error.

  Returns:
    The leaf; only stored blocks are multiplied by their scale.

  Raises:
    NoRule: the leaf has more dimensions, or a grid for its input.
  """
  if len(leaf.shape) != 2 or leaf.input is not None:
    raise NoRule("transpose", path, "only a matrix of blocks without a grid for its input can be")
  if leaf.scale is None:
    return transposed(leaf)
  width = leaf.block[1]
  scale = jnp.broadcast_to(leaf.scale, (leaf.matrix[1],))
  scale = jnp.pad(scale, (0, leaf.tiles[1] * width - scale.size)).reshape(-1, 1, width)
  blocks = leaf.blocks.astype(jnp.float32) * scale[leaf.columns()]
  return transposed(dataclasses.replace(leaf, blocks=blocks, scale=None, bits=32))


def _convolution(op: Conv, x: Array, w: Ref, zero: Array) -> Array:
  """Convolves in the one layout that blocks tile."""
  spec, p = op.params["dimension_numbers"], op.params
  nhwc = (0, x.ndim - 1, *range(1, x.ndim - 1))
  hwio = (x.ndim - 1, x.ndim - 2, *range(x.ndim - 2))
  if (spec.lhs_spec, spec.rhs_spec, spec.out_spec) != (nhwc, hwio, nhwc) or op.grouped():
    raise NoRule(op.primitive.name, w.path, "its blocks take NHWC by HWIO convolutions, one group")
  x, plain = op.pad(x, zero)
  return conv(x, w.leaf, strides=plain.params["window_strides"], dilation=p["rhs_dilation"])

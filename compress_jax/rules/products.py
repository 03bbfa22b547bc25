"""Rules of `dot_general` and `conv_general_dilated` for every leaf."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from compress_jax.leaves import Clustered, FakeQuant, LowRank, Masked, Quantized
from compress_jax.leaves.base import Array
from compress_jax.leaves.grid import codes
from compress_jax.rules.contraction import Contraction, Conv, Dot
from compress_jax.rules.registry import NoRule, Ref, cast, register

# Largest |q - zero_point| of an 8-bit grid, asymmetric and symmetric.
_WIDEST = {True: 255, False: 127}
_FLOAT32_EXACT = 2**24
_INT32_EXACT = 2**31


@jax.custom_jvp
def with_gradient_of(value: Array, surrogate: Array) -> Array:
  """Returns `value`; its gradient is the surrogate's.

  Under jit the surrogate's own value is never computed.

  Args:
    value: the result.
    surrogate: a differentiable computation of (nearly) the same number.

  Returns:
    `value`.

  Example:
    >>> import jax
    >>> jax.grad(lambda x: with_gradient_of(jax.numpy.round(x), 3 * x))(1.2)
    Array(3., dtype=float32, weak_type=True)
  """
  return value


@with_gradient_of.defjvp
def _with_gradient_of_jvp(primals, tangents):
  return primals[0], tangents[1].astype(primals[0].dtype)


def product(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a weight by the rule of its leaf, and shows the result to `capture`.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result, of dtype `op.dtype`.
  """
  if isinstance(w.leaf, LowRank):
    out = _low_rank(interpreter, op, x, w)
  elif isinstance(w.leaf, FakeQuant | Quantized):
    out = _affine(op, x, w)
  else:
    out = op(x, w.dense())
  out = out.astype(op.dtype)
  interpreter.record(w.path, x, out)
  return out


def _low_rank(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """x · (u @ v) as two products; a custom derivative stays its author's."""
  value = _two_products(interpreter, dataclasses.replace(op, outer=None), x, w)
  if op.outer is None:
    return value
  return with_gradient_of(lax.stop_gradient(value), op(x, w.dense()))


def _two_products(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  u, v = (Ref(part, f"{w.path}/{name}", w.dtype)
          for name, part in (("u", w.leaf.u), ("v", w.leaf.v)))
  if isinstance(op, Conv):
    return _low_rank_conv(interpreter, op, x, u, v)
  if not op.is_matrix():
    raise NoRule(op.primitive.name, w.path, "only a matrix without batch axes has factors")
  (axis,) = op.contracted()
  first, second = (u, v) if axis == 0 else (v, u)
  h = product(interpreter, op.over(op.x_axes(), (axis,)), x, first)
  out = product(interpreter, op.over((h.ndim - 1,), (axis,)), h, second)
  return jnp.moveaxis(out, -1, 0) if op.on_left else out


def _low_rank_conv(interpreter: Any, op: Conv, x: Array, u: Ref, v: Ref) -> Array:
  spec = op.params["dimension_numbers"]
  if spec.rhs_spec[0] != op.ndim - 1 or op.params["feature_group_count"] != 1:
    raise NoRule(op.primitive.name, u.path, "factors need output channels last and one group")
  channels = spec.out_spec[1]
  h = product(interpreter, op, x, u)
  numbers = {"dimension_numbers": (((channels,), (0,)), ((), ())), "precision": None,
             "preferred_element_type": jnp.dtype(op.dtype), "out_sharding": None}
  dot = Dot(primitives.dot_general_p, numbers, False, 2, op.dtype)
  return jnp.moveaxis(product(interpreter, dot, h, v), -1, channels)


def _affine(op: Contraction, x: Array, w: Ref) -> Array:
  """Products on a grid: on integers (or their floats), then one rescale."""
  leaf = w.leaf
  if leaf.input is None:
    # Weight-only: the same arithmetic for both leaves, so the same bits.
    if op.outer is None:
      # Sums of many steps leave float16's range: accumulate in float32.
      total = op.bind(x, leaf.steps().astype(x.dtype), preferred_element_type=jnp.dtype("float32"))
    else:
      total = op(x, leaf.steps().astype(x.dtype)).astype(jnp.float32)
    return _rounded(total * op.per_output(leaf.scale, w.path, total.ndim))
  grid = leaf.input
  _check_sum(op, leaf, w.path)
  surrogate = op(grid.fake(x).astype(x.dtype), leaf.dense().astype(w.dtype))
  run = _integer if isinstance(leaf, Quantized) else _integer_valued
  total = run(op, lax.stop_gradient(x), lax.stop_gradient(leaf), w.path)
  scale = lax.stop_gradient(grid.scale * op.per_output(leaf.scale, w.path, total.ndim))
  return with_gradient_of(_rounded(total * scale).astype(op.dtype), surrogate.astype(op.dtype))


@jax.custom_jvp
def _rounded(x: Array) -> Array:
  """Rounds float32 to 22 bits, so that both leaves give the same bits in any program.

  Without it a compiler may fuse a rescale with the bias that follows into one rounding for one
  leaf and not for the other; XLA's CPU backend drops an optimization barrier before it does.
  """
  return lax.reduce_precision(x, exponent_bits=8, mantissa_bits=22)


_rounded.defjvp(lambda primals, tangents: (_rounded(*primals), tangents[0]))


def _integer(op: Contraction, x: Array, leaf: Quantized, path: str) -> Array:
  """Accumulates int8 products in int32; float32 result, rounded once."""
  grid = leaf.input
  if leaf.zero_point is not None:
    # The shifted weight does not fit int8: widen both sides.
    w = leaf.integers.astype(jnp.int32) - leaf.zero_point
    return op.exact(grid.steps(x).astype(jnp.int32), w, jnp.int32).astype(jnp.float32)
  q = codes(grid.steps(x), grid.zero_point, jnp.int8)
  if grid.zero_point is None:
    return op.exact(q, leaf.integers, jnp.int32).astype(jnp.float32)
  # sum (q - z) w = sum q w - z sum w, where padding has the code of 0.0, which is z.
  q, padded = op.pad(q, grid.zero_point)
  sums = leaf.integers.astype(jnp.int32).sum(op.contracted(), keepdims=True)
  total = padded.exact(q, leaf.integers, jnp.int32)
  return (total - grid.zero_point * op.per_output(sums, path, total.ndim)).astype(jnp.float32)


def _integer_valued(op: Contraction, x: Array, leaf: FakeQuant, path: str) -> Array:
  """The sum that `_integer` gives, from float32 products of whole numbers."""
  q, w = leaf.input.steps(x), leaf.steps()
  widest = _WIDEST[leaf.input.zero_point is not None], _WIDEST[leaf.zero_point is not None]
  terms = op.terms(leaf.shape)
  if terms * widest[0] * widest[1] < _FLOAT32_EXACT:
    return op.exact(q, w, jnp.float32)
  # Long sums leave float32's whole numbers: add 4-bit digits of x, then of w too, separately.
  weights = [(1, w)] if terms * 16 * widest[1] < _FLOAT32_EXACT else _digits(w)
  parts = [a * b * op.exact(d, e, jnp.float32).astype(jnp.int32)
           for a, d in _digits(q) for b, e in weights]
  return sum(parts).astype(jnp.float32)


def _digits(q: Array) -> list[tuple[int, Array]]:
  """Returns [(factor, digit)] of whole numbers up to 255; digits are up to 16."""
  high = jnp.floor(q / 16)
  return [(16, high), (1, q - 16 * high)]


def _check_sum(op: Contraction, leaf: Any, path: str) -> None:
  """Raises NoRule where the sum of integer products may leave int32."""
  most = op.terms(leaf.shape) * 255 * (255 if leaf.zero_point is not None else 127)
  if isinstance(leaf.bits, int) and leaf.bits > 8:
    raise NoRule(op.primitive.name, path, f"bits={leaf.bits}: integer products take up to 8")
  if most >= _INT32_EXACT:
    raise NoRule(op.primitive.name, path, f"{op.terms(leaf.shape)} products may leave int32")


def _operands(cls: type[Contraction], interpreter: Any, equation: Any, left: Any, right: Any,
              outer: Any = None) -> list[Any]:
  on_left = isinstance(left, Ref)
  if on_left and (isinstance(right, Ref) or cls is Conv):
    raise NoRule(equation.primitive.name, left.path, "the other operand must be a plain array"
                 if isinstance(right, Ref) else "a kernel is the second operand")
  w, x = (left, right) if on_left else (right, left)
  aval = equation.outvars[0].aval
  op = cls(equation.primitive, dict(equation.params), on_left, w.leaf.ndim, aval.dtype, outer)
  return [product(interpreter, op, x, w)]


conv_general_dilated_p = primitives.conv_general_dilated_p

for _leaf in (Masked, Clustered, FakeQuant, Quantized, LowRank, jax.Array):
  register(primitives.dot_general_p, _leaf)(functools.partial(_operands, Dot))
  register(conv_general_dilated_p, _leaf)(functools.partial(_operands, Conv))


def _convert(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
    raise NoRule(equation.primitive.name, x.path, "a weight stays in floating point")
  return [cast(x, equation.params["new_dtype"])]


register(primitives.convert_element_type_p, None)(_convert)

"""Products with weights on a grid: on integers, or their floats, then one rescale."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from compress_jax.leaves import FakeQuant, Quantized, StaticGrid, input_grid_of
from compress_jax.leaves.axes import pieces
from compress_jax.leaves.base import Array
from compress_jax.leaves.dtypes import at_least_float32
from compress_jax.leaves.grid import codes, spread
from compress_jax.lift.contraction import Contraction
from compress_jax.lift.registry import NoRule, Ref
from compress_jax.lift.scheduling import in_turn
from compress_jax.lift.surrogate import rounded, with_gradient_of

# Largest |q - zero_point| of an 8-bit grid, asymmetric and symmetric.
_WIDEST = {True: 255, False: 127}
_FLOAT32_EXACT = 2**24
_INT32_EXACT = 2**31


# (contraction, other operand on its grid, leaf, that grid, path) -> the sum of whole numbers
Sum = Callable[[Contraction, Array, Any, StaticGrid, str], Array]


def fake_quantized(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `FakeQuant` weight.

  Args:
    interpreter: the running interpreter. Where it is `exact`, a product with a quantized input
      adds up just what the integers give; if not, it is one product of rounded floats, the
      cheap way to train.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result.

  Raises:
    NoRule: the scale varies along a summed axis that cannot be cut up, or the
      integers' sum may leave int32.
  """
  if w.leaf.input is None:
    return _weight_only(op, x, w)
  if not interpreter.exact:
    return _surrogate(op, x, w, w.leaf.input.for_input(x))
  return _on_integers(op, x, w, _integer_valued)


def quantized(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `Quantized` weight, to the same bits as `fake_quantized`.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result.

  Raises:
    NoRule: as `fake_quantized` does.
  """
  if w.leaf.input is None:
    return _weight_only(op, x, w)
  return _on_integers(op, x, w, _integer)


def narrow_float(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `FakeFloat` or `Float` weight.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result.

  Raises:
    NoRule: as `fake_quantized` does, or a leaf inside has a grid for its input.
  """
  if input_grid_of(w.leaf) is not None:
    raise NoRule(op.primitive.name, w.path, "a leaf inside has a grid for its input, which floats "
                 "do not have; must be None")
  return _weight_only(op, x, w)


def _surrogate(op: Contraction, x: Array, w: Ref, grid: StaticGrid) -> Array:
  """One product of rounded floats, which has the gradients whatever computes the value."""
  return op(grid.fake_quantize(x).astype(x.dtype), w.leaf.dense().astype(w.dtype))


def _on_integers(op: Contraction, x: Array, w: Ref, total: Sum) -> Array:
  grid = w.leaf.input.for_input(x)
  fixed = dataclasses.replace(w, leaf=lax.stop_gradient(w.leaf).replace(input=grid))
  rule = functools.partial(_integer_product, total)
  if _summed_with_scales(op, w.leaf):
    rule = functools.partial(_grouped, rule)
  value = rule(op.bare(), lax.stop_gradient(x), fixed)
  return with_gradient_of(value.astype(op.dtype), _surrogate(op, x, w, grid).astype(op.dtype))


def _weight_only(op: Contraction, x: Array, w: Ref) -> Array:
  """The same arithmetic for a leaf and its deployed form, so the same bits."""
  w, x = in_turn(w, x)
  return op.with_own_gradient(_product_of_floats(op.bare(), x, w), x, w)


def _product_of_floats(op: Contraction, x: Array, w: Ref) -> Array:
  """Multiplies by the steps, and by what one stands for on whichever side it can be."""
  leaf, scale = w.leaf, w.leaf.step_size()
  varying = _summed_with_scales(op, leaf)
  if varying and all(scale.shape[a] == 1 for a in range(op.ndim) if a not in varying):
    # A small scale would lose its digits in float16.
    x = x.astype(at_least_float32(x.dtype)) * _on_x(op, x, scale, w)
    return _product_of_steps(op, x, leaf, None, w.path)
  if varying:
    return _grouped(_plain_group, op, x, w)
  return _product_of_steps(op, x, leaf, scale, w.path)


def _product_of_steps(op: Contraction, x: Array, leaf: Any, scale: Array | None,
                      path: str) -> Array:
  wide = at_least_float32(x.dtype)
  if leaf.may_exceed_8_bits or x.dtype.itemsize < 2:
    # float16 ends at 65504, bfloat16 has 8 bits, and floats of 8 bits have 4 at most.
    x = x.astype(wide)
  # Sums of many steps leave float16's range.
  total = op.bind(x, leaf.steps().astype(x.dtype), preferred_element_type=wide)
  return total if scale is None else rounded(total * _per_output(op, scale, leaf, path, total))


def _per_output(op: Contraction, s: Array, leaf: Any, path: str, total: Array) -> Array:
  """Lays a scale or zero point out as the result's axes; groups may share it along these."""
  if s.ndim:
    free = op.free()
    s = spread(s, tuple(n if a in free else s.shape[a] for a, n in enumerate(leaf.shape)))
  return op.per_output(s, path, total.ndim)


def _summed_with_scales(op: Contraction, leaf: Any) -> list[int]:
  """Returns the summed axes along which the scale varies."""
  scale = leaf.scale
  if scale is None or scale.ndim == 0:
    return []
  return [a for a in op.contracted() if scale.shape[a] != 1]


def _on_x(op: Contraction, x: Array, scale: Array, w: Ref) -> Array:
  """Lays a scale that varies along summed axes only out as the other operand's axes."""
  full, laid = spread(scale, w.leaf.shape), [1] * x.ndim
  axes: dict[int, int] = {}
  for a in range(full.ndim):
    if full.shape[a] == 1:
      continue
    at = op.x_axis(a)
    if at is None:
      raise op.varying_scale(w.path)
    axes[a], laid[at] = at, full.shape[a]
  # Axes that vary in the order in which x has them; the others are of size 1, wherever they are.
  order = sorted(range(full.ndim), key=lambda a: (a not in axes, axes.get(a, 0)))
  return jnp.transpose(full, order).reshape(laid)


def _grouped(rule: Callable[..., Array], op: Contraction, x: Array, w: Ref) -> Array:
  """Sums over groups of inputs, each with its own scale."""
  leaf = w.leaf
  (axis, *others) = _summed_with_scales(op, leaf)
  count, at = leaf.scale.shape[axis], op.x_axis(axis)
  if others or at is None or count == leaf.shape[axis]:
    raise op.varying_scale(w.path)

  def one(part: Array, fields: dict[str, Any]) -> Array:
    return rule(op, part, dataclasses.replace(w, leaf=leaf.replace(**fields)))

  groups = pieces(x, at, count), leaf.pieces(axis, count)
  return jax.vmap(one)(*groups).sum(0)


def _plain_group(op: Contraction, x: Array, w: Ref) -> Array:
  return _product_of_steps(op, x, w.leaf, w.leaf.step_size(), w.path)


def _integer_product(total_of: Sum, op: Contraction, x: Array, w: Ref) -> Array:
  """The integers' sum and its rescale; `input` is fixed, nothing is differentiated."""
  leaf, grid, scale = w.leaf, w.leaf.input, w.leaf.step_size()
  _check_sum(op, leaf, w.path)
  if leaf.may_exceed_8_bits or grid.may_exceed_8_bits:
    total_of = _sum_of_digits
  total = total_of(op, x, leaf, grid, w.path)
  return rounded(total * (grid.scale * _per_output(op, scale, leaf, w.path, total)))


def _integer(op: Contraction, x: Array, leaf: Quantized, grid: StaticGrid, path: str) -> Array:
  """Accumulates int8 products in int32; float32 result, rounded once.

  sum (q - z) (w - v) = sum q w - z sum w - v (sum q - z n), with n terms, where int32 may leave its
  range on the way, and comes back. Padding has the code of 0.0, which is z.
  """
  w, z, v = leaf.integers, grid.zero_point, leaf.zero_point
  # The sums are products too, with ones: XLA's reduction of a kernel takes ten times as long on
  # a CPU as its convolution of a small image.
  ones = None if v is None else op.ones_of_weight(w)
  if v is not None and ones is None:
    # The shifted weight does not fit int8: widen both sides.
    q = grid.quantize_to_grid(x).astype(jnp.int32)
    return op.exact(q, leaf.steps().astype(jnp.int32), jnp.int32).astype(jnp.float32)
  q = codes(grid.quantize_to_grid(x), z, jnp.int8)
  if z is not None:
    q, op = op.pad(q, z)
  total = op.exact(q, w, jnp.int32)
  if z is not None:
    total = total - z * op.exact(op.ones(q, w), w, jnp.int32)
  if v is not None and ones is not None:
    shift = 0 if z is None else z * op.terms(leaf.shape)
    zero = _per_output(op, v, leaf, path, total)
    total = total - zero * (op.exact(q, ones, jnp.int32) - shift)
  return total.astype(jnp.float32)


def _integer_valued(op: Contraction, x: Array, leaf: FakeQuant, grid: StaticGrid,
                    path: str) -> Array:
  """The sum that `_integer` gives, from float32 products of whole numbers."""
  q, w = grid.quantize_to_grid(x), leaf.steps()
  widest = _WIDEST[grid.zero_point is not None], _WIDEST[leaf.zero_point is not None]
  terms = op.terms(leaf.shape)
  if terms * widest[0] * widest[1] < _FLOAT32_EXACT:
    return op.exact(q, w, jnp.float32)
  # Long sums leave float32's whole numbers: add 4-bit digits of x, then of w too, separately.
  weights = [(1, w)]
  if terms * 16 * widest[1] >= _FLOAT32_EXACT:
    weights = _digits(w, 16)
  total: Any = 0  # an array from the first digits on
  for a, d in _digits(q, 16):
    for b, e in weights:
      total = total + a * b * op.exact(d, e, jnp.float32).astype(jnp.int32)
  return total.astype(jnp.float32)


def _sum_of_digits(op: Contraction, x: Array, leaf: Any, grid: StaticGrid, path: str) -> Array:
  """Sums of products of up to 16 bits: digits of 8 bits, each in int32, for either leaf."""
  parts = []
  for a, d in _eight_bits(grid.quantize_to_grid(x), grid.may_exceed_8_bits):
    for b, e in _eight_bits(leaf.steps(), leaf.may_exceed_8_bits):
      total = op.exact(d.astype(jnp.int32), e.astype(jnp.int32), jnp.int32)
      parts.append(a * b * total.astype(jnp.float32))
  # One at a time, the largest first: the same roundings in every program.
  return sum(parts[1:], start=parts[0])


def _eight_bits(q: Array, may_exceed: bool) -> list[tuple[int, Array]]:
  """Returns [(factor, digit)] of whole numbers, each digit of 8 bits."""
  return _digits(q, 256) if may_exceed else [(1, q)]


def _digits(q: Array, base: int) -> list[tuple[int, Array]]:
  """Returns [(factor, digit)] of whole numbers; the low digit is never negative."""
  high = jnp.floor(q / base)
  return [(base, high), (1, q - base * high)]


def _check_sum(op: Contraction, leaf: Any, path: str) -> None:
  """Raises NoRule where the sum of integer products may leave int32."""
  terms = op.terms(leaf.shape)
  if leaf.may_exceed_8_bits or leaf.input.may_exceed_8_bits:
    most = terms * 256 * 256
  else:
    most = terms * 255 * _WIDEST[leaf.zero_point is not None]
  if most >= _INT32_EXACT:
    raise NoRule(op.primitive.name, path, f"{terms} products may leave int32")

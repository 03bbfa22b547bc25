"""`dot_general` and `conv_general_dilated` on weights, and which rule each leaf has."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from compress_jax.leaves import (
  BlockSparse,
  Clustered,
  FakeFloat,
  FakeQuant,
  Float,
  Masked,
  Quantized,
  input_grid_of,
)
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction, Conv, Dot
from compress_jax.lift.registry import (
  PRODUCT_RULES,
  NoRule,
  Product,
  Ref,
  as_no_rule,
  cast,
  product_of,
  register,
  register_product,
)
from compress_jax.lift.rules.affine import fake_quantized, narrow_float, quantized
from compress_jax.lift.rules.block_sparse import block_sparse
from compress_jax.lift.scheduling import in_turn


def plain(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a weight as the dense array that it stands for: zeros cost what others do.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result.
  """
  if w.compressed:
    w, x = in_turn(w, x)
  return op(x, w.dense())


def masked(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies a `Masked` weight, by the rule of the leaf inside where that has a grid for its input.

  Args:
    interpreter: the running interpreter.
    op: the contraction.
    x: the other operand.
    w: the weight.

  Returns:
    The result.

  Raises:
    NoRule: the leaf inside has a grid, but takes no mask or has no rule.
  """
  if input_grid_of(w.leaf) is None:
    return plain(interpreter, op, x, w)
  # The mask goes inside, as it does when the leaf is frozen: so both give the same bits.
  with as_no_rule(op.primitive.name, w.path):
    inside = dataclasses.replace(w, leaf=w.leaf.value.masked(w.leaf.mask))
  return product_of(op, inside).rule(interpreter, op, x, inside)


register_product(Masked)(masked)
register_product(Clustered)(plain)
register_product(FakeQuant)(fake_quantized)
register_product(Quantized)(quantized)
register_product(FakeFloat)(narrow_float)
register_product(Float)(narrow_float)
register_product(BlockSparse)(block_sparse)
# A watched array is not a leaf, but runs like one.
PRODUCT_RULES[jax.Array] = Product(plain, by_parts=False)


def operands(cls: type[Contraction], interpreter: Any, equation: Any, left: Any, right: Any,
             outer: Any = None) -> list[Any]:
  """Is the rule of both primitives: finds the weight among the operands and applies it.

  Args:
    cls: `Dot` or `Conv`.
    interpreter: the running interpreter.
    equation: of the primitive.
    left: array or `Ref`.
    right: array or `Ref`.
    outer: see `Contraction`.

  Returns:
    The one output.

  Raises:
    NoRule: both are weights, or a convolution's first operand is.
  """
  name, on_left = equation.primitive.name, isinstance(left, Ref)
  if on_left and isinstance(right, Ref):
    raise NoRule(name, left.path, "the other operand must be a plain array")
  if on_left and cls is Conv:
    raise NoRule(name, left.path, "a kernel is the second operand")
  w, x = (left, right) if on_left else (right, left)
  dtype = equation.outvars[0].aval.dtype
  op = cls(equation.primitive, dict(equation.params), on_left, w.leaf.ndim, dtype, outer)
  return [interpreter.product(op, x, w)]


register(primitives.dot_general_p)(functools.partial(operands, Dot))
register(primitives.conv_general_dilated_p)(functools.partial(operands, Conv))


@register(primitives.convert_element_type_p)
def _convert(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
    raise NoRule(equation.primitive.name, x.path, "a weight stays in floating point")
  return [cast(x, equation.params["new_dtype"])]

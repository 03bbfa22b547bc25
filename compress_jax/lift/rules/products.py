"""Rules of `dot_general` and `conv_general_dilated` for every leaf."""

from __future__ import annotations

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
  LowRank,
  Masked,
  Quantized,
  Spatial,
  Tucker2,
)
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction, Conv, Dot
from compress_jax.lift.registry import NoRule, Ref, cast, register
from compress_jax.lift.rules.affine import affine
from compress_jax.lift.rules.block_sparse import block_sparse
from compress_jax.lift.rules.factors import factorized

_AFFINE = (FakeQuant, Quantized, FakeFloat, Float)
_FACTORIZED = (LowRank, Tucker2, Spatial)


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
  terms = op.terms(w.leaf.shape)
  if isinstance(w.leaf, _FACTORIZED):
    # The factors' own products are what is multiplied and added.
    out, terms = factorized(interpreter.product, op, x, w), 0
  elif isinstance(w.leaf, _AFFINE):
    out = affine(op, x, w, interpreter.exact)
  elif isinstance(w.leaf, BlockSparse):
    out = block_sparse(op, x, w)
  else:
    out = op(x, w.dense())
  out = out.astype(op.dtype)
  interpreter.record(w.path, x, out, terms)
  return out


def _operands(cls: type[Contraction], interpreter: Any, equation: Any, left: Any, right: Any,
              outer: Any = None) -> list[Any]:
  on_left = isinstance(left, Ref)
  if on_left and (isinstance(right, Ref) or cls is Conv):
    raise NoRule(equation.primitive.name, left.path, "the other operand must be a plain array"
                 if isinstance(right, Ref) else "a kernel is the second operand")
  w, x = (left, right) if on_left else (right, left)
  aval = equation.outvars[0].aval
  op = cls(equation.primitive, dict(equation.params), on_left, w.leaf.ndim, aval.dtype, outer)
  return [interpreter.product(op, x, w)]


conv_general_dilated_p = primitives.conv_general_dilated_p

for _leaf in (Masked, Clustered, BlockSparse, *_AFFINE, *_FACTORIZED, jax.Array):
  register(primitives.dot_general_p, _leaf)(functools.partial(_operands, Dot))
  register(conv_general_dilated_p, _leaf)(functools.partial(_operands, Conv))


def _convert(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  if not jnp.issubdtype(equation.params["new_dtype"], jnp.floating):
    raise NoRule(equation.primitive.name, x.path, "a weight stays in floating point")
  return [cast(x, equation.params["new_dtype"])]


register(primitives.convert_element_type_p, None)(_convert)

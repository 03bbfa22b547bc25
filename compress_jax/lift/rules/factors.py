"""Products with factorized weights: one thinner product after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.extend.core import primitives

from compress_jax.leaves import LowRank, Spatial, Tucker2
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction, Conv, Dot
from compress_jax.lift.registry import NoRule, ProductRule, Ref, register_product

# (contraction, other operand, factor) -> result
Multiply = Callable[[Contraction, Array, Ref], Array]


def in_factors(rule: Callable[..., Array]) -> ProductRule:
  """Makes a rule of a function that applies the factors one after the other.

  Args:
    rule: (product, op, x, w) -> result, where product(op, x, factor) applies one.

  Returns:
    A rule for `register_product(..., by_parts=True)`; a custom derivative stays its
    author's.
  """
  def factorized(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
    return op.with_own_gradient(rule(interpreter.product, op.bare(), x, w), x, w)
  return factorized


def _parts(w: Ref) -> list[Ref]:
  return [w.part(name) for name in w.leaf.parts]


def _low_rank(product: Multiply, op: Contraction, x: Array, w: Ref) -> Array:
  u, v = _parts(w)
  if isinstance(op, Conv):
    channels = _channels(op, w)[1]
    return _pointwise(product, op, product(op, x, u).astype(x.dtype), v, channels)
  if not isinstance(op, Dot) or not op.is_matrix():
    raise NoRule(op.primitive.name, w.path, "only a matrix without batch axes has factors")
  (axis,) = op.contracted()
  # x @ (u @ v) meets u first; x @ (u @ v).T meets v first.
  first, second = (u, v) if axis == 0 else (v, u)
  h = product(op.over(op.x_axes(), (axis,)), x, first)
  out = product(op.over((h.ndim - 1,), (axis,)), h, second)
  return jnp.moveaxis(out, -1, 0) if op.on_left else out


def _tucker2(product: Multiply, op: Contraction, x: Array, w: Ref) -> Array:
  u, core, v = _parts(w)
  before, after = _channels(op, w)
  h = product(op, _pointwise(product, op, x, u, before).astype(x.dtype), core)
  return _pointwise(product, op, h.astype(x.dtype), v, after)


def _spatial(product: Multiply, op: Contraction, x: Array, w: Ref) -> Array:
  _channels(op, w)
  if op.params["dimension_numbers"].rhs_spec[2:] != (0, 1):
    raise NoRule(op.primitive.name, w.path, "the factors need a kernel of height, width, channels")
  # The vertical kernel strides and pads along the height, the horizontal along the width.
  vertical, horizontal = _parts(w)
  # What comes between has x's layout, which the result need not have.
  between = op.params["dimension_numbers"].lhs_spec
  h = product(_along(op, 0, out_spec=between), x, vertical).astype(x.dtype)
  return product(_along(op, 1), h, horizontal)


def _along(op: Contraction, axis: int, **layout: Any) -> Contraction:
  """Returns the convolution with its strides, padding and dilations along one axis only."""
  only = lambda values, none: tuple(v if i == axis else none for i, v in enumerate(values))
  p = op.params
  return dataclasses.replace(op, params=p | {
      "dimension_numbers": p["dimension_numbers"]._replace(**layout),
      "window_strides": only(p["window_strides"], 1), "padding": only(p["padding"], (0, 0)),
      "lhs_dilation": only(p["lhs_dilation"], 1), "rhs_dilation": only(p["rhs_dilation"], 1)})


def _channels(op: Contraction, w: Ref) -> tuple[int, int]:
  """Returns the channel axes of a convolution's input and output."""
  if isinstance(op, Conv) and not op.grouped():
    spec = op.params["dimension_numbers"]
    if spec.rhs_spec[:2] == (op.ndim - 1, op.ndim - 2):
      return spec.lhs_spec[1], spec.out_spec[1]
  raise NoRule(op.primitive.name, w.path,
               "the factors need a convolution of one group with channels last in its kernel")


def _pointwise(product: Multiply, op: Contraction, x: Array, w: Ref, channels: int) -> Array:
  """Mixes channels: a 1 x 1 convolution as a matrix product."""
  numbers: dict[str, Any] = {
      "dimension_numbers": (((channels,), (0,)), ((), ())), "precision": op.params["precision"],
      "preferred_element_type": jnp.dtype(op.dtype), "out_sharding": None}
  dot = Dot(primitives.dot_general_p, numbers, False, 2, op.dtype)
  return jnp.moveaxis(product(dot, x, w), -1, channels)


for _leaf, _rule in ((LowRank, _low_rank), (Tucker2, _tucker2), (Spatial, _spatial)):
  register_product(_leaf, by_parts=True)(in_factors(_rule))

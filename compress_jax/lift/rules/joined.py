"""The rule of `concatenate`: weights that are joined for one product stay what they are."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from compress_jax.leaves import Leaf, dense_of
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction, Conv
from compress_jax.lift.registry import NoRule, Ref, dense_array, register, register_product


# Not by `node`: no file may name it.
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Joined(Leaf):
  """Weights side by side, while a program runs (the gates of a recurrent cell, say).

  Attributes:
    weights: arrays and leaves.
    paths: of each; "" of an array that the program computed.
    axis: along which they are joined.
  """

  weights: tuple[Any, ...]
  paths: tuple[str, ...] = dataclasses.field(metadata={"static": True})
  axis: int = dataclasses.field(metadata={"static": True})

  @property
  def shape(self):
    shape = list(self.weights[0].shape)
    shape[self.axis] = sum(w.shape[self.axis] for w in self.weights)
    return tuple(shape)

  @property
  def dtype(self):
    return jnp.dtype(self.weights[0].dtype)

  def dense(self) -> Array:
    return jnp.concatenate([dense_of(w).astype(self.dtype) for w in self.weights], self.axis)


@register_product(Joined, by_parts=True)
def one_by_one(interpreter: Any, op: Contraction, x: Array, w: Ref) -> Array:
  """Applies each of the joined weights by its own rule.

  Args:
    interpreter: the running interpreter; it records each.
    op: the contraction.
    x: the other operand.
    w: the joined weights.

  Returns:
    The results side by side, or their sum where the joined axis is summed over.

  Raises:
    NoRule: one of the weights has none.
  """
  axis, parts = w.leaf.axis, _parts(op, x, w)
  outs = [_applied(interpreter, op.bare(), part, w, i) for i, part in enumerate(parts)]
  if axis in op.contracted():
    value = functools.reduce(operator.add, outs)
  else:
    value = jnp.concatenate(outs, op.output_axes(outs[0].ndim)[axis])
  return op.with_own_gradient(value, x, w)


def _parts(op: Contraction, x: Array, w: Ref) -> list[Array]:
  """Returns what each of the joined weights meets of x: a part of it, or all."""
  axis, count = w.leaf.axis, len(w.leaf.weights)
  if isinstance(op, Conv) and op.grouped():
    # Which outputs are a group's is decided by all of them, so a part has other groups.
    raise NoRule(op.primitive.name, w.path, "weights are joined under a convolution in groups")
  if axis not in (*op.contracted(), *op.batch_axes()):
    return [x] * count
  at = op.x_axis(axis)
  if at is None:
    raise NoRule(op.primitive.name, w.path, "weights are joined along a window")
  ends = list(itertools.accumulate(weight.shape[axis] for weight in w.leaf.weights))
  return jnp.split(x, ends[:-1], at)


def _applied(interpreter: Any, op: Contraction, x: Array, w: Ref, number: int) -> Array:
  weight, path = w.leaf.weights[number], w.leaf.paths[number]
  if not path:
    return op(x, weight.astype(w.dtype)).astype(op.dtype)
  return interpreter.product(op, x, Ref(weight, path, w.dtype))


@register(primitives.concatenate_p)
def _concatenate(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  # What is no compressed weight is joined as the array that it is.
  weights = tuple(x.leaf if isinstance(x, Ref) and x.compressed else dense_array(x)
                  for x in inputs)
  paths = tuple(x.path if isinstance(x, Ref) else "" for x in inputs)
  watched = not any(isinstance(x, Ref) and x.compressed for x in inputs)
  leaf = Joined(weights, paths, equation.params["dimension"])
  name = " + ".join(path for path in paths if path)
  return [Ref(leaf, name, equation.outvars[0].aval.dtype, watched=watched)]

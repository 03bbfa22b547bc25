"""Invariants that several leaves share; each raises a ValueError that names the field."""

from __future__ import annotations

import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from compress_jax.leaves.base import Array, Leaf, Node, is_node


def concrete(x: Any) -> np.ndarray | None:
  """Returns `x` as a numpy array, or None where it is being traced.

  Args:
    x: an array or number.

  Returns:
    The array.
  """
  return None if isinstance(x, Tracer) else np.asarray(x)


def is_whole(value: Any) -> bool:
  """Returns whether something is a whole number; True and False are none.

  Args:
    value: anything.
  """
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def whole(name: str, value: Any, low: int) -> None:
  """Refuses what is no whole number from some number on.

  Args:
    name: of the argument, for the error.
    value: a number; True and False are none.
    low: the smallest that it may be.

  Raises:
    ValueError: it is something else.

  Example:
    >>> whole("rounds", 2.5, 1)
    Traceback (most recent call last):
    ...
    ValueError: rounds=2.5: must be a whole number from 1
  """
  if not is_whole(value) or value < low:
    raise ValueError(f"{name}={value!r}: must be a whole number from {low}")


def block(name: str, value: Any) -> None:
  """Refuses what is no block of a matrix.

  Args:
    name: of the argument, for the error.
    value: (rows, columns).

  Raises:
    ValueError: they are no two whole numbers from 1.
  """
  try:
    rows, columns = value
    whole(name, rows, 1)
    whole(name, columns, 1)
  except (TypeError, ValueError):
    raise ValueError(f"{name}={value}: must be two whole numbers from 1") from None


def within(node: Node, name: str, low: int, high: int) -> None:
  """Refuses a field with a number outside of a range; one that is traced passes.

  Args:
    node: the leaf or grid.
    name: of the field, an array of numbers.
    low: the smallest number that it may hold.
    high: the largest.

  Raises:
    ValueError: a number is outside.
  """
  x = concrete(getattr(node, name))
  if x is None or not x.size:
    return
  smallest, largest = x.min(), x.max()
  if not low <= smallest <= largest <= high:
    raise ValueError(f"{type(node).__name__}.{name}: holds {smallest} to {largest}; must be from "
                     f"{low} to {high}")


def float_format(what: str, dtype: Any) -> None:
  """Refuses a dtype, or the name of one, that is not floating-point.

  Args:
    what: the field's name, for the error.
    dtype: the dtype or its name.

  Raises:
    ValueError: it is another dtype, or no name of one.
  """
  try:
    known = jnp.issubdtype(jnp.dtype(dtype), jnp.floating)
  except TypeError:
    known = False
  if not known:
    raise ValueError(f"{what}: {str(dtype)[:60]!r}; must be a floating-point dtype")


def bits(node: Node, value: Array | int, low: int = 2) -> None:
  """Refuses bits that are no whole number in range; a stack of them passes.

  Args:
    node: the leaf or grid.
    value: its bits, up to 16.
    low: the fewest.

  Raises:
    ValueError: they are something else.
  """
  if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
    raise ValueError(f"{type(node).__name__}.bits: {jnp.result_type(value)}; must be integers")
  within(node, "bits", low, 16)


def integers(node: Node, name: str, nbits: int) -> None:
  """Refuses stored integers that need more than their bits.

  Args:
    node: the leaf.
    name: of the field.
    nbits: of each integer.

  Raises:
    ValueError: they are no signed integers, or too large.
  """
  dtype = getattr(node, name).dtype
  if not jnp.issubdtype(dtype, jnp.signedinteger):
    raise ValueError(f"{type(node).__name__}.{name}: {dtype}; must be signed integers")
  within(node, name, -2 ** (nbits - 1), 2 ** (nbits - 1) - 1)


def input_grid(node: Any) -> None:
  """Refuses an input's grid that is none.

  Args:
    node: a leaf with `input`.

  Raises:
    ValueError: it is an array, say.
  """
  if node.input is not None and not is_node(node.input):
    raise ValueError(f"{type(node).__name__}.input: a {type(node.input).__name__}; must be a grid "
                     "or None")


def steps(node: Any, value: Array | Leaf) -> None:
  """Refuses a scale or zero points that do not lie over the weights.

  Args:
    node: a leaf with `scale` and maybe `zero_point`.
    value: what they belong to; its shape counts.

  Raises:
    ValueError: a shape or dtype does not fit.
  """
  zero = node.fields().get("zero_point")
  for name, x in (("scale", node.scale), ("zero_point", zero)):
    if x is not None:
      _lies_over(f"{type(node).__name__}.{name}", x.shape, value.shape)
  if node.scale is not None:
    float_format(f"{type(node).__name__}.scale", node.scale.dtype)
  if zero is not None and not jnp.issubdtype(zero.dtype, jnp.integer):
    raise ValueError(f"{type(node).__name__}.zero_point: {zero.dtype}; must be integers, or None")


def _lies_over(what: str, shape: tuple[int, ...], whole: tuple[int, ...]) -> None:
  """Refuses a shape unless it is (), divides every axis of the whole, or is of a stack."""
  if len(shape) == len(whole):
    fits = all(n == 1 or size == n or (n > 0 and size % n == 0)
               for n, size in zip(shape, whole, strict=True))
  else:
    # A scalar, or one for each weight of a stack.
    fits = tuple(shape) == tuple(whole[:len(shape)])
  if not fits:
    raise ValueError(f"{what}: shape {tuple(shape)}; must be () or divide every axis of "
                     f"{tuple(whole)}")

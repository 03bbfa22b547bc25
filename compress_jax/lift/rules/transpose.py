"""Rules of primitives that only rearrange a weight."""

from __future__ import annotations

import dataclasses
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
  is_leaf,
)
from compress_jax.lift.registry import NoRule, Ref, register
from compress_jax.lift.rules.block_sparse import turned


def transposed(x: Any, order: tuple[int, ...], path: str) -> Any:
  """Returns an array or leaf with its axes in another order.

  Args:
    x: an array, a leaf, or None.
    order: which axis comes at each place.
    path: for the error.

  Returns:
    The same, laid out so; what has fewer axes stays.

  Raises:
    NoRule: the leaf has another order of its own.

  Example:
    >>> transposed(jnp.ones((2, 3)), (1, 0), "w").shape
    (3, 2)
  """
  if isinstance(x, LowRank):
    if tuple(order) != (1, 0):
      raise NoRule("transpose", path, "only a matrix of factors can be transposed")
    return LowRank(transposed(x.v, order, path), transposed(x.u, order, path))
  if isinstance(x, BlockSparse):
    return turned(x, path)
  if not is_leaf(x):
    return x if x is None or x.ndim != len(order) else jnp.transpose(x, order)
  # Everything but the input's grid and the bits is laid out as the weight is.
  moved = {name: transposed(value, order, path) for name, value in x.fields().items()
           if name not in ("input", "bits")}
  return dataclasses.replace(x, **moved)


def _transpose(interpreter: Any, equation: Any, x: Ref) -> list[Any]:
  order = equation.params["permutation"]
  return [dataclasses.replace(x, leaf=transposed(x.leaf, order, x.path))]


for _leaf in (Masked, Clustered, FakeQuant, Quantized, FakeFloat, Float, LowRank, BlockSparse,
              jax.Array):
  register(primitives.transpose_p, _leaf)(_transpose)

"""Penalties that drive weights towards zero during training."""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import dense_of
from compress_jax.leaves.base import Array


def l1(params: Any, *, where: tree.Where = None) -> Array:
  """Returns the sum of absolute weights (L1 sparsification).

  Added to a loss, times a factor that may be traced.

  Args:
    params: a parameter tree; leaves count as the arrays they stand for.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`).

  Returns:
    float32 scalar, differentiable.

  Raises:
    ValueError: nothing selected.

  Source: "Report on model compression", L1 sparsification.

  Example:
    >>> import jax.numpy as jnp
    >>> float(l1({"w": jnp.array([[1.0, -2.0]]), "bias": jnp.ones(3)}))
    3.0
  """
  return functools.reduce(operator.add, [jnp.abs(x).sum() for x in _selected(params, where)])


def l2(params: Any, *, where: tree.Where = None) -> Array:
  """Returns half the sum of squared weights (weight decay as a penalty).

  Args:
    params: as in `l1`.
    where: as in `l1`.

  Returns:
    float32 scalar, differentiable.

  Raises:
    ValueError: nothing selected.

  Example:
    >>> import jax.numpy as jnp
    >>> float(l2({"w": jnp.array([[1.0, -2.0]])}))
    2.5
  """
  return functools.reduce(operator.add, [(x * x).sum() for x in _selected(params, where)]) / 2


def _selected(params: Any, where: tree.Where) -> list[Array]:
  # float32, since a sum of many half-precision weights would lose the small ones.
  return [dense_of(x).astype(jnp.float32) for _, x in tree.select(params, where)[0]]

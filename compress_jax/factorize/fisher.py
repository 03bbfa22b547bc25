"""How much each weight matters to a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves.base import Array


def fisher(loss: Callable[[Any, Any], Array], params: Any, batches: Iterable[Any]) -> Any:
  """Estimates the diagonal of the Fisher information from gradients.

  Args:
    loss: scalar function of (parameter tree of arrays, batch); the estimate is
      the empirical one where a batch is a single example, and a coarser one
      otherwise.
    params: a parameter tree; leaves count as the arrays they stand for.
    batches: what `loss` takes, all of one shape, so that it is compiled once.

  Returns:
    A tree of float32 arrays like `cj.dense(params)`: mean squared gradients.

  Raises:
    ValueError: no batch.

  Source: Hsu et al. 2022, "Language model compression with weighted low-rank
  factorization", equation 5.

  Example:
    >>> import jax.numpy as jnp
    >>> loss = lambda p, x: (p["w"] * x).sum()
    >>> fisher(loss, {"w": jnp.ones(2)}, [jnp.array([1.0, 3.0])])["w"].tolist()
    [1.0, 9.0]
  """
  @jax.jit
  def squared(dense: Any, batch: Any) -> Any:
    # Squares of half-precision gradients would underflow.
    return jax.tree.map(lambda g: g.astype(jnp.float32) ** 2, jax.grad(loss)(dense, batch))

  dense, total, count = tree.dense(params), None, 0
  for batch in batches:
    found = squared(dense, batch)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
    count += 1
  if total is None:
    raise ValueError("batches: the estimate needs at least one")
  return jax.tree.map(lambda x: x / count, total)

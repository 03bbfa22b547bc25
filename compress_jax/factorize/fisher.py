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
    A tree like `cj.dense(params)`, float32 in the place of floating-point arrays: mean squared
    gradients. What has no gradient (counters, keys, functions) stays as it is.

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
  # Counters, keys and a module's functions have no gradient.
  chosen, rebuild = tree.select(tree.dense(params), tree.everything)

  @jax.jit
  def squared(values: Any, batch: Any) -> Any:
    grads = jax.grad(lambda values: loss(rebuild(values), batch))(values)
    # Squares of half-precision gradients would underflow.
    return [g.astype(jnp.float32) ** 2 for g in grads]

  values, total, count = [x for _, x in chosen], None, 0
  for batch in batches:
    found = squared(values, batch)
    total = found if total is None else jax.tree.map(jnp.add, total, found)
    count += 1
  if total is None:
    raise ValueError("batches: the estimate needs at least one")
  return rebuild([x / count for x in total])

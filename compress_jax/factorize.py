"""Low-rank factorization of weight matrices."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import LowRank, dense_of
from compress_jax.leaves.base import Array


def svd(params: Any, *, rank: int | None = None, delta: int | None = None,
        where: tree.Where = None) -> Any:
  """Replaces matrices by the product of two factors, the best of that rank.

  The factors replace the tensor: a mask or a grid on it is gone afterwards
  (prune or quantize the factors instead, with the same transforms).

  Args:
    params: a parameter tree.
    rank: columns of the first factor; or give `delta`.
    delta: rank is r_max - delta, where r_max = d_in * d_out / (d_in + d_out),
      rounded down, is where the factors have as many parameters as the matrix.
    where: regular expression or predicate on the path; by default every matrix
      (exactly two dimensions). A leaf with more is factorized as the matrix of
      its last axis against all others: a convolution becomes one with fewer
      output channels and a 1 x 1 convolution. Vectors are left alone.

  Returns:
    The tree with `LowRank` leaves; the singular values are shared evenly.

  Raises:
    ValueError: neither or both of rank and delta, a rank outside 1 to full for
      some leaf, nothing selected, weights not finite.

  Source: Eckart and Young 1936; r_max from "Combinatorics with model
  compression", equation 2.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.factorize.svd({"w": jnp.ones((6, 6))}, delta=1)["w"].rank
    2
  """
  if (rank is None) == (delta is None):
    raise ValueError(f"rank={rank}, delta={delta}: give exactly one of them")
  chosen, rebuild = tree.select(params, where)
  possible = [x.ndim == 2 if where is None else x.ndim >= 2 for _, x in chosen]
  if not any(possible):
    raise ValueError(f"where={where!r}: none of these is a matrix: "
                     f"{', '.join(path for path, _ in chosen)}")
  return rebuild([_factors(path, x, rank, delta) if ok else x
                  for (path, x), ok in zip(chosen, possible, strict=True)])


def max_rank(shape: tuple[int, ...]) -> int:
  """Returns r_max of a weight of this shape, rounded down; see `svd`.

  Example:
    >>> max_rank((448, 10))
    9
  """
  outputs = shape[-1]
  inputs = math.prod(shape[:-1])
  return inputs * outputs // (inputs + outputs)


def _factors(path: str, x: Any, rank: int | None, delta: int | None) -> LowRank:
  tree.check_finite(path, x)
  shape = x.shape
  full = min(math.prod(shape[:-1]), shape[-1])
  used = rank if delta is None else max_rank(shape) - delta
  if not 1 <= used <= full:
    argument = f"rank={rank}" if delta is None else f"delta={delta} (rank {used})"
    raise ValueError(f"{path}: {argument}: the rank of a {shape} weight may be from 1 to {full}")
  return _truncated(dense_of(x), used)


def _truncated(w: Array, rank: int) -> LowRank:
  u, s, vt = jnp.linalg.svd(w.reshape(-1, w.shape[-1]).astype(jnp.float32), full_matrices=False)
  root = jnp.sqrt(s[:rank])
  u = (u[:, :rank] * root).reshape(*w.shape[:-1], rank)
  return LowRank(u.astype(w.dtype), (root[:, None] * vt[:rank]).astype(w.dtype))

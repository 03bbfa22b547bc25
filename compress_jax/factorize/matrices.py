"""Low-rank factorization of weight matrices."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax import checks, tree
from compress_jax.factorize import ranks
from compress_jax.leaves import LowRank, dense_of
from compress_jax.leaves.base import Array
from compress_jax.leaves.dtypes import at_least_float32


def svd(params: Any, *, rank: int | None = None, delta: int | None = None,
        energy: float | None = None, budget: float | None = None, fisher: Any = None,
        where: tree.Where = None) -> Any:
  """Replaces matrices by the product of two factors, the best of that rank.

  The factors replace the tensor: a mask or a grid on it is gone afterwards
  (prune or quantize the factors instead, with the same transforms).

  Args:
    params: a parameter tree.
    rank: columns of the first factor. Give exactly one of the next four.
    delta: rank is r_max - delta, where r_max = d_in * d_out / (d_in + d_out),
      rounded down, is where the factors have as many parameters as the matrix.
    energy: the smallest rank that keeps this share of the squared singular
      values, above 0, up to 1. It may be above r_max, where the factors have more parameters
      than the matrix.
    budget: parameters of all factors as a fraction of the matrices' own; ranks
      go where they keep most of a matrix's energy per parameter, to none beyond its r_max.
    fisher: a tree like the params (dense) with the Fisher information of every
      weight, from `factorize.fisher`: rows of the matrix count as much as their
      weights' information together. None is the plain SVD.
    where: regular expression or predicate on the path; by default every matrix
      (exactly two dimensions). A leaf with more is factorized as the matrix of
      its last axis against all others: a convolution becomes one with fewer
      output channels and a 1 x 1 convolution. Vectors are left alone.

  Returns:
    The tree with `LowRank` leaves; the singular values are shared evenly.

  Raises:
    ValueError: not exactly one way to choose ranks, a rank outside 1 to full for
      some leaf, nothing selected, weights not finite.

  Source: Eckart and Young 1936; r_max from "Combinatorics with model
  compression", equation 2; Fisher-weighted: Hsu et al. 2022, "Language model
  compression with weighted low-rank factorization", equation 6.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.factorize.svd({"w": jnp.ones((6, 6))}, delta=1)["w"].rank
    2
  """
  ranks.check_one(rank=rank, delta=delta, energy=energy, budget=budget)
  chosen, rebuild = tree.select(params, where)
  # Convolutions are factorized only where they are asked for.
  most = 2 if where is None else math.inf
  picked = [i for i, (_, x) in enumerate(chosen) if 2 <= x.ndim <= most]
  if not picked:
    raise ValueError(f"where={where!r}: none of these is a matrix: "
                     f"{', '.join(path for path, _ in chosen)}")
  parts, candidates = [], []
  for i in picked:
    path, x = chosen[i]
    u, s, v = _decomposed(path, x, _information(fisher, path, x))
    parts.append((u, s, v))
    rows, columns = math.prod(x.shape[:-1]), x.shape[-1]
    candidates.append(ranks.candidate(path, x.shape, s, cost=rows + columns))
  with checks.taken([c.path for c in candidates], where is None):
    found = ranks.chosen(candidates, rank=rank, delta=delta, energy=energy, budget=budget)
  new = [x for _, x in chosen]
  for i, part, r in zip(picked, parts, found, strict=True):
    new[i] = _truncated(new[i], part, r)
  return rebuild(new)


def _information(fisher: Any, path: str, x: Any) -> Array | None:
  """Returns the Fisher information of a weight, None where none is given."""
  if fisher is None:
    return None
  found = tree.by_path(fisher).get(path)
  shape = getattr(found, "shape", None)
  if shape != x.shape:
    raise ValueError(f"{path}: fisher has {shape} there; it must be an array of {x.shape}, from "
                     "factorize.fisher")
  known = checks.concrete(found)
  if known is not None and not (np.isfinite(known) & (known >= 0)).all():
    raise ValueError(f"{path}: fisher holds NaN, infinity or a negative number; must be means of "
                     "squares, from factorize.fisher")
  return found


def _decomposed(path: str, x: Any, information: Array | None) -> tuple[Array, Array, Array]:
  """Returns u, s, v of the matrix: both factors, and what decides how many of their columns stay.

  Shared evenly, the singular values give both factors one scale to train at, and to be ranked
  by. The rows' importance is divided out of `u` again, and its size is nobody's.
  """
  checks.finite(path, x)
  matrix = dense_of(x).astype(at_least_float32(x.dtype)).reshape(-1, x.shape[-1])
  if information is None:
    u, s, v = jnp.linalg.svd(matrix, full_matrices=False)
    root = jnp.sqrt(s)
    return u * root, s, root[:, None] * v
  # Squared gradients are as small as they like: only their ratios count.
  largest = information.max()
  share = jnp.where(largest > 0, information / largest, 1).reshape(matrix.shape)
  row = jnp.sqrt(share.astype(matrix.dtype).sum(-1, keepdims=True))
  # The rows are divided by this again: one without information must not be 0.
  row = jnp.maximum(row, 1e-3 * row.max())
  u, s, v = jnp.linalg.svd(row * matrix, full_matrices=False)
  u = u / row
  norms = jnp.linalg.norm(u, axis=0)
  root = jnp.sqrt(s * norms)
  return u / norms * root, s, root[:, None] * v


def _truncated(x: Any, part: tuple[Array, Array, Array], rank: int) -> LowRank:
  """Returns the two factors of the leading singular vectors."""
  u, _, v = part
  u = u[:, :rank].reshape(*x.shape[:-1], rank)
  return LowRank(u.astype(x.dtype), v[:rank].astype(x.dtype))

"""Low-rank factorization of convolution kernels (height, width, inputs, outputs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.factorize import ranks
from compress_jax.leaves import Spatial, Tucker2, dense_of
from compress_jax.leaves.base import Array
from compress_jax.leaves.dtypes import at_least_float32


def tucker2(params: Any, *, rank: tuple[int, int] | None = None, energy: float | None = None,
            where: tree.Where = None) -> Any:
  """Replaces kernels by 1 x 1, a smaller window of channels, 1 x 1 (Tucker-2).

  The two channel bases are the leading singular vectors of the kernel unfolded
  along each (higher-order SVD). The factors replace the tensor: a mask or a grid
  on it is gone afterwards.

  Args:
    params: a parameter tree.
    rank: channels of the core, (in, out); or give `energy`.
    energy: the smallest ranks that each keep this share of the squared singular
      values of their unfolding, above 0, up to 1.
    where: regular expression or predicate on the path; by default every leaf
      with exactly four dimensions. Others are left alone.

  Returns:
    The tree with `Tucker2` leaves; at full ranks they are exact.

  Raises:
    ValueError: neither or both of rank and energy, a rank outside 1 to full,
      nothing selected, weights not finite.

  Source: Kim et al. 2016, "Compression of deep convolutional neural networks for
  fast and low power mobile applications", equation 3.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.factorize.tucker2({"w": jnp.ones((3, 3, 4, 6))}, rank=(2, 3))["w"].ranks
    (2, 3)
  """
  ranks.check_one(rank=rank, energy=energy)
  pair = (None, None) if rank is None else rank
  if not isinstance(pair, tuple | list) or len(pair) != 2:
    raise ValueError(f"rank={rank}: must be two whole numbers (in, out)")
  return _over_kernels(params, where, lambda path, w: _tucker2(path, w, pair, energy))


def spatial(params: Any, *, rank: int | None = None, energy: float | None = None,
            where: tree.Where = None) -> Any:
  """Replaces kernels by a vertical and a horizontal one, the best of that rank.

  The factors replace the tensor: a mask or a grid on it is gone afterwards.

  Args:
    params: a parameter tree.
    rank: channels between the two; or give `energy`.
    energy: the smallest rank that keeps this share of the squared singular
      values, above 0, up to 1.
    where: as in `tucker2`.

  Returns:
    The tree with `Spatial` leaves.

  Raises:
    ValueError: as in `tucker2`.

  Source: Jaderberg, Vedaldi and Zisserman 2014, "Speeding up convolutional neural
  networks with low rank expansions", scheme 2; solved by an SVD as in Tai et al. 2016.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.factorize.spatial({"w": jnp.ones((3, 3, 4, 6))}, rank=2)["w"].vertical.shape
    (3, 1, 4, 2)
  """
  ranks.check_one(rank=rank, energy=energy)
  return _over_kernels(params, where, lambda path, w: _spatial(path, w, rank, energy))


def _over_kernels(params: Any, where: tree.Where, factors: Callable[[str, Array], Any]) -> Any:
  """Returns the tree with `factors(path, kernel)` in place of every kernel."""
  chosen, rebuild = tree.select(params, where)
  if not any(x.ndim == 4 for _, x in chosen):
    raise ValueError(f"where={where!r}: none of these is a kernel of four dimensions: "
                     f"{', '.join(path for path, _ in chosen)}")
  new = []
  for path, x in chosen:
    with checks.taken([path], where is None):
      checks.finite(path, x)
      new.append(factors(path, dense_of(x)) if x.ndim == 4 else x)
  return rebuild(new)


def _rank(path: str, shape: tuple[int, ...], s: Array, name: str, rank: int | None,
          energy: float | None) -> int:
  """Returns the rank of one unfolding with these singular values; errors call it `name`."""
  only = ranks.candidate(path, shape, s)
  if rank is not None:
    checks.whole(name, rank, 1)
    return ranks.checked(only, rank, f"{name}={rank}")
  return ranks.for_energy(only, energy)


def _tucker2(path: str, w: Array, rank: tuple[int | None, int | None],
             energy: float | None) -> Tucker2:
  u = _basis(path, w, 2, "rank[0]", rank[0], energy)
  v = _basis(path, w, 3, "rank[1]", rank[1], energy)
  # Orthonormal bases: the core is the kernel projected on both.
  core = jnp.einsum("hwio,ir,os->hwrs", w.astype(u.dtype), u, v, precision="highest")
  return Tucker2(u.astype(w.dtype), core.astype(w.dtype), v.T.astype(w.dtype))


def _basis(path: str, w: Array, axis: int, name: str, rank: int | None,
           energy: float | None) -> Array:
  """Returns the leading left singular vectors of the kernel unfolded along an axis."""
  unfolded = jnp.moveaxis(w.astype(at_least_float32(w.dtype)), axis, 0).reshape(w.shape[axis], -1)
  u, s, _ = jnp.linalg.svd(unfolded, full_matrices=False)
  return u[:, :_rank(path, w.shape, s, name, rank, energy)]


def _spatial(path: str, w: Array, rank: int | None, energy: float | None) -> Spatial:
  height, width, inputs, outputs = w.shape
  # Rows are (height, inputs), columns (width, outputs).
  matrix = w.astype(at_least_float32(w.dtype)).transpose(0, 2, 1, 3).reshape(height * inputs, -1)
  u, s, v = jnp.linalg.svd(matrix, full_matrices=False)
  r = _rank(path, w.shape, s, "rank", rank, energy)
  # Shared evenly, the singular values give both factors one scale to train at.
  root = jnp.sqrt(s[:r])
  vertical = (u[:, :r] * root).reshape(height, 1, inputs, r)
  horizontal = (root[:, None] * v[:r]).reshape(r, 1, width, outputs).transpose(1, 2, 0, 3)
  return Spatial(vertical.astype(w.dtype), horizontal.astype(w.dtype))

"""Weight sharing: a codebook by k-means."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.leaves import Clustered, dense_of, mask_of
from compress_jax.leaves.base import Array


def cluster(params: Any, clusters: int, *, iterations: int = 25, where: tree.Where = None) -> Any:
  """Replaces weights by the nearest of a few shared values, which then train.

  k-means in one dimension, from values spread evenly over the range (linear
  initialization). Pruned weights keep an exact zero of their own, beside the
  clusters; a grid on the weights is gone afterwards.

  Args:
    params: a parameter tree.
    clusters: shared values of each leaf, 2 to 256.
    iterations: of Lloyd's algorithm.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`). A low-rank leaf has its factors clustered.

  Returns:
    The tree with `Clustered` leaves.

  Raises:
    ValueError: a number out of range, nothing selected, weights not finite.

  Source: Han, Mao and Dally 2016, "Deep compression", section 3.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = jnp.array([[1.0, 1.2, 5.0, 5.2]])
    >>> cj.quantize.cluster({"w": w}, 2)["w"].dense().round(2).tolist()[0]
    [1.100000023841858, 1.100000023841858, 5.099999904632568, 5.099999904632568]
  """
  checks.integer("clusters", clusters, 2, 256)
  checks.whole("iterations", iterations, 0)
  return tree.transform(params, where,
                        lambda path, x: _clustered(path, x, clusters, iterations))


def _clustered(path: str, x: Any, clusters: int, iterations: int) -> Clustered:
  checks.finite(path, x)
  w, mask = dense_of(x).astype(jnp.float32), mask_of(x)
  counted = jnp.ones(w.shape, bool) if mask is None else mask
  codebook = _k_means(w.ravel(), counted.ravel(), clusters, iterations)
  index = _nearest(codebook, w)
  if mask is not None:
    # The first entry is the exact zero of what is pruned.
    index = jnp.where(mask, index + 1, 0)
    codebook = jnp.concatenate([jnp.zeros(1, jnp.float32), codebook])
  # 256 clusters and the zero take one more than a byte holds.
  dtype = jnp.uint8 if codebook.size <= 256 else jnp.uint16
  return Clustered(codebook.astype(x.dtype), index.astype(dtype), zero=mask is not None)


def _k_means(w: Array, counted: Array, clusters: int, iterations: int) -> Array:
  """Returns the sorted centres of the counted weights."""
  low = jnp.min(w, where=counted, initial=jnp.inf)
  high = jnp.max(w, where=counted, initial=-jnp.inf)
  start = jnp.where(counted.any(), jnp.linspace(low, high, clusters), 0.0)

  def step(_: Any, centres: Array) -> Array:
    index = _nearest(centres, w)
    count = jax.ops.segment_sum(counted.astype(jnp.int32), index, clusters)
    # By how far the mean is off: millions of weights, added up one after the other, would leave
    # float32's precision, and their differences to the centre cancel.
    off = jax.ops.segment_sum(jnp.where(counted, w - centres[index], 0), index, clusters)
    # An empty cluster stays where it was; the order stays too.
    return centres + off / jnp.maximum(count, 1)

  return jax.lax.fori_loop(0, iterations, step, start)


def _nearest(centres: Array, w: Array) -> Array:
  """Returns the index of the nearest of sorted centres."""
  return jnp.searchsorted((centres[1:] + centres[:-1]) / 2, w)

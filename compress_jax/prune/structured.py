"""Pruning of weights together: blocks, N of M, whole filters. All are masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.input_axis import InputAxis, input_axis
from compress_jax.leaves import mask_of
from compress_jax.leaves.base import Array
from compress_jax.leaves.tiles import spread, tiled
from compress_jax.prune.ranking import keep_largest, magnitudes, weights, with_masks
from compress_jax.prune.unstructured import selected

# From weights and the axes to reduce to one number each; none is negative.
SCORES: dict[str, Callable[..., Array]] = {
    "l1": lambda w, axis: jnp.abs(w).sum(axis),
    "l2": lambda w, axis: jnp.sqrt((w * w).sum(axis)),
    "max": lambda w, axis: jnp.abs(w).max(axis, initial=0),
}
# Below any score: what is pruned already goes first, before groups that happen to be 0.
_PRUNED = -1.0


def block(params: Any, sparsity: Array | float, *, block: tuple[int, int] = (64, 64),
          score: str = "l2", scope: str = "global", where: tree.Where = None) -> Any:
  """Masks whole blocks of weight matrices, the smallest first.

  A kernel is the matrix of its last axis (outputs) against all others. Where the
  block does not divide the matrix, the blocks at its edges are cut off; they are
  scored as if padded with zeros.

  Args:
    params: a parameter tree.
    sparsity: the fraction of the blocks that ends up zero, 0 to 1, those already
      pruned included; may be traced.
    block: rows and columns.
    score: "l1", "l2" or "max", of a block's weights.
    scope: "global" ranks the blocks of all selected leaves together, "layer" those
      of each leaf by themselves.
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`).

  Returns:
    The tree with `Masked` leaves; matrices and kernels that mix channels freeze to
    `BlockSparse`.

  Raises:
    ValueError: an argument out of range, nothing selected, weights not finite.

  Source: Gray, Radford and Kingma 2017, "GPU kernels for block-sparse weights".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = jnp.array([[1.0, 1, 5], [1, 1, 5]])
    >>> cj.prune.block({"w": w}, 0.5, block=(2, 2))["w"].dense().tolist()
    [[0.0, 0.0, 5.0], [0.0, 0.0, 5.0]]
  """
  checks.block("block", block)
  _check_score(score)
  chosen, rebuild = selected(params, where)
  scores = [_block_scores(x, block, score) for _, x in chosen]
  kept = keep_largest(scores, sparsity, scope)
  masks = [spread(blocks, x.shape, block) for (_, x), blocks in zip(chosen, kept, strict=True)]
  return rebuild(with_masks(chosen, masks, (block[0], block[1])))


def _block_scores(x: Any, block: tuple[int, int], score: str) -> Array:
  """Returns (block rows, block columns) scores, `_PRUNED` where a block is all pruned."""
  scores = SCORES[score](tiled(weights(x), block), (2, 3))
  mask = mask_of(x)
  if mask is None:
    return scores
  kept = tiled(mask, block).any((2, 3))
  return jnp.where(kept, scores, _PRUNED)


def n_m(params: Any, n: Array | int, m: int, *, axis: InputAxis = None,
        where: tree.Where = None) -> Any:
  """Keeps the n largest of every m consecutive weights.

  Args:
    params: a parameter tree.
    n: how many weights of a group are kept, 0 to m; may be traced.
    m: how many weights are a group; must divide the axis.
    axis: along which groups lie, the weights' inputs: a number, or a function of the path.
      None is -2, the inputs of Flax's dense layers and convolutions; a weight of three or
      more dimensions that does not look like these is refused.
    where: as in `block`.

  Returns:
    The tree with `Masked` leaves; what was pruned before stays so.

  Raises:
    ValueError: n > m, m does not divide the axis of a leaf or that is not known (the error
      names the leaf), nothing selected, weights not finite.

  Source: Mishra et al. 2021, "Accelerating sparse deep neural networks" (2:4).

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> w = jnp.array([[1.0], [-4.0], [3.0], [2.0]])
    >>> cj.prune.n_m({"w": w}, 2, 4)["w"].dense().ravel().tolist()
    [0.0, -4.0, 3.0, 0.0]
  """
  checks.whole("m", m, 1)
  checks.integer("n", n, 0, m)
  chosen, rebuild = selected(params, where)
  with checks.taken([path for path, _ in chosen], where is None):
    masks = [_n_m_mask(path, x, n, m, axis) for path, x in chosen]
  return rebuild(with_masks(chosen, masks))


def _n_m_mask(path: str, x: Any, n: Array | int, m: int, asked: InputAxis) -> Array:
  """Returns a leaf's mask: the n largest of every m along the axis."""
  axis = input_axis(path, x.shape, asked, name="axis")
  if axis < 0 or x.shape[axis] % m:
    raise ValueError(f"{path}: m={m}: must divide axis {axis - x.ndim} of a {x.shape} weight")
  groups = jnp.moveaxis(magnitudes(x), axis, -1)
  ranked = groups.reshape(*groups.shape[:-1], groups.shape[-1] // m, m)
  # The rank in its group, the largest first; equal ones in order, so that n are kept.
  rank = jnp.argsort(jnp.argsort(-ranked, -1, stable=True), -1, stable=True)
  return jnp.moveaxis((rank < n).reshape(groups.shape), -1, axis)


def filters(params: Any, sparsity: Array | float, *, score: str = "l1", axis: int = -1,
            scope: str = "layer", where: tree.Where = None) -> Any:
  """Masks whole filters (output channels): every weight at an index of an axis.

  Args:
    params: a parameter tree.
    sparsity: the fraction of the filters that ends up zero, 0 to 1; may be traced.
    score: "l1", "l2" or "max", of a filter's weights.
    axis: whose indices are the filters: -1 the outputs, -2 the inputs of a Flax
      kernel.
    scope: as in `block`; filters of different layers differ in size, so that their
      L1 and L2 scores are comparable within a layer only.
    where: as in `block`.

  Returns:
    The tree with `Masked` leaves.

  Raises:
    ValueError: an argument out of range, nothing selected, weights not finite.

  Source: Li et al. 2017, "Pruning filters for efficient convnets".

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.prune.filters({"w": jnp.array([[1.0, 2.0]])}, 0.5)["w"].dense().tolist()
    [[0.0, 2.0]]
  """
  _check_score(score)
  chosen, rebuild = selected(params, where)
  with checks.taken([path for path, _ in chosen], where is None):
    scores = [_filter_scores(path, x, axis, score) for path, x in chosen]
  kept = keep_largest(scores, sparsity, scope)
  masks = [_along(one, x.shape, axis) for (_, x), one in zip(chosen, kept, strict=True)]
  return rebuild(with_masks(chosen, masks))


def _filter_scores(path: str, x: Any, axis: int, score: str) -> Array:
  """Returns a score for each index of the axis, `_PRUNED` where a filter is all pruned."""
  if not -x.ndim <= axis < x.ndim:
    raise ValueError(f"{path}: axis={axis}: must be from {-x.ndim} to {x.ndim - 1}")
  others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
  scores = SCORES[score](weights(x), others)
  mask = mask_of(x)
  return scores if mask is None else jnp.where(mask.any(others), scores, _PRUNED)


def _along(mask: Array, shape: tuple[int, ...], axis: int) -> Array:
  """Returns a mask of filters, (filters,), as one of weights."""
  sizes = [1] * len(shape)
  sizes[axis] = -1
  return jnp.broadcast_to(mask.reshape(sizes), shape)


def _check_score(score: str) -> None:
  if score not in SCORES:
    raise ValueError(f"score={score!r}: must be one of {', '.join(SCORES)}")

"""Pruning: masks over parameter trees."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from compress_jax import tree
from compress_jax.leaves import Leaf, Masked, apply_mask, dense_of
from compress_jax.leaves.base import Array


def magnitude(params: Any, sparsity: Array | float, *, scope: str = "global",
              where: tree.Where = None) -> Any:
  """Masks the weights of smallest magnitude.

  Applied to masked weights it keeps what was pruned before, so that calling it
  with a rising sparsity is iterative magnitude pruning.

  Args:
    params: a parameter tree.
    sparsity: the fraction of the selected weights that ends up zero, 0 to 1,
      those already pruned included; rounded to a whole number of weights. May
      be traced.
    scope: "global" ranks all selected weights together, "layer" each leaf by
      itself.
    where: regular expression or predicate on the path; by default every leaf
      with two or more dimensions. A low-rank leaf has its factors pruned.

  Returns:
    The tree with `Masked` leaves (inside `FakeQuant`, where quantized).

  Raises:
    ValueError: sparsity outside 0 to 1, an unknown scope, nothing selected, or
      weights that are not finite.

  Source: Han et al. 2015, "Learning both weights and connections"; global
  ranking as in Frankle and Carbin 2019.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.prune.magnitude({"w": jnp.array([[3.0, -1.0]])}, 0.5)["w"].dense().tolist()
    [[3.0, 0.0]]
  """
  tree.check_number("sparsity", sparsity, 0, 1)
  if scope not in ("global", "layer"):
    raise ValueError(f"scope={scope!r}: may be 'global' or 'layer'")
  chosen, rebuild = tree.select_parts(params, where)
  for path, x in chosen:
    tree.check_finite(path, x)
  scores = [_scores(x) for _, x in chosen]
  if scope == "layer":
    masks = [~smallest(s, sparsity) for s in scores]
  else:
    pruned = smallest(jnp.concatenate([s.ravel() for s in scores]), sparsity)
    masks = _split(~pruned, scores)
  return rebuild([apply_mask(x, mask) for (_, x), mask in zip(chosen, masks, strict=True)])


def smallest(scores: Array, fraction: Array | float) -> Array:
  """Marks the smallest scores, exactly as many as asked for.

  Args:
    scores: float array.
    fraction: 0 to 1; may be traced.

  Returns:
    A bool array like `scores`, true at round(fraction * size) elements; of equal
    scores the first ones.

  Example:
    >>> import jax.numpy as jnp
    >>> smallest(jnp.array([2.0, 1.0, 1.0]), 1 / 3).tolist()
    [False, True, False]
  """
  flat = scores.ravel()
  count = jnp.round(jnp.asarray(fraction, jnp.float32) * flat.size).astype(jnp.int32)
  # One sort, then ties in order: half the cost of ranking by a double argsort.
  threshold = jnp.sort(flat)[jnp.clip(count - 1, 0, flat.size - 1)]
  below, ties = flat < threshold, flat == threshold
  room = count - below.sum()
  return (below | (ties & (jnp.cumsum(ties) <= room))).reshape(scores.shape)


def _scores(x: Array | Leaf) -> Array:
  """Magnitudes, with -1 where a mask has pruned before, so that it goes first."""
  scores = jnp.abs(dense_of(x)).astype(jnp.float32)
  mask = mask_of(x)
  return scores if mask is None else jnp.where(mask, scores, -1.0)


def mask_of(x: Array | Leaf) -> Array | None:
  """Returns the mask inside a leaf, or None where it has none.

  Args:
    x: an array or leaf.

  Returns:
    A bool array of the leaf's shape; true is kept.

  Example:
    >>> import jax.numpy as jnp
    >>> mask_of(jnp.ones(2)) is None
    True
  """
  while isinstance(x, Leaf):
    if isinstance(x, Masked):
      return x.mask
    x = getattr(x, "value", None)
  return None


def _split(flat: Array, like: list[Array]) -> list[Array]:
  out, start = [], 0
  for x in like:
    out.append(flat[start:start + x.size].reshape(x.shape))
    start += x.size
  return out

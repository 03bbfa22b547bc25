"""How much of a tree is pruned already, in the unit in which a pruning counts.

A sparsity is a fraction of weights to one pruning, of blocks or filters to another, of any size
and of any part of the tree; that is the user's function, which does not say. So it is asked: at
which sparsity does it begin to take more than is gone? For weights the answer is the fraction
that is gone. Blocks and filters differ in size, and the sparsity at which the next one goes is
found by halving.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from compress_jax import tree
from compress_jax.leaves import mask_of
from compress_jax.leaves.base import Array
from compress_jax.leaves.either import is_pruned

Prune = Callable[[Any, Array | float], Any]
_EXACT = 1e-6  # of a fraction of filters or blocks, of which there are far fewer


def already_pruned(params: Any, prune: Prune) -> float:
  """Returns the fraction that is pruned already, of what a pruning counts.

  Args:
    params: a parameter tree, concrete.
    prune: (tree, sparsity) -> tree with masks.

  Returns:
    The largest sparsity at which `prune` would change nothing.
  """
  if not any(is_pruned(x) for _, x in tree.select_parts(params, tree.everything)[0]):
    return 0.0
  emptied = prune(params, 1.0)
  # What this pruning ranks, it puts masks over: also where none is yet.
  kept, total = _counted(prune(params, 0.0), emptied)
  gone = total - kept
  if not gone:
    return 0.0
  at = lambda sparsity: _counted(prune(params, sparsity), emptied)[0]
  middle = (1 + gone / total) / 2
  if abs(at(middle) - total * (1 - middle)) <= len(jax.tree.leaves(emptied)):
    return gone / total  # it counts weights, over all or in each layer
  # Filters and blocks differ in size. The next of them goes half a step after what is gone.
  first = _largest(at, kept)
  after = at(min(1.0, first + 2 * _EXACT))
  second = _largest(at, after) if after else 2.0 - first
  return first - (second - first) / 2


def _largest(at: Callable[[float], int], kept: int) -> float:
  """Returns the largest sparsity, to within `_EXACT`, at which so many weights are kept."""
  low, high = 0.0, 1.0
  while high - low > _EXACT:
    middle = (low + high) / 2
    if at(middle) < kept:
      high = middle
    else:
      low = middle
  return low


def _counted(params: Any, emptied: Any) -> tuple[int, int]:
  """Returns how many weights masks keep, and of how many, of those that a pruning ranks.

  Args:
    params: the tree, with masks over all that the pruning ranks.
    emptied: the same with all of that pruned: other masks are not this pruning's.
  """
  parts, others = (tree.select_parts(p, tree.everything)[0] for p in (params, emptied))
  kept = total = 0
  for (_, x), (_, empty) in zip(parts, others, strict=True):
    if not is_pruned(x):
      continue  # what has no mask, or cannot say, is not what this pruning masks
    mask, rest = mask_of(x), mask_of(empty)
    if mask is not None and rest is not None and not rest.any():
      kept, total = kept + int(mask.sum()), total + mask.size
  return kept, total

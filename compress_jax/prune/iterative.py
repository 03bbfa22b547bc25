"""Pruning round by round, or step by step, with a choice of what the weights go back to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.leaves import dense_of
from compress_jax.leaves.base import Array
from compress_jax.leaves.either import with_value
from compress_jax.prune.already_pruned import Prune, already_pruned
from compress_jax.prune.unstructured import magnitude


def iterative(params: Any, train: Callable[[Any, int], Any], *, fraction: float, rounds: int,
              rewind_to: Any = None, prune: Prune = magnitude) -> Iterator[tuple[float, Any]]:
  """Prunes a fraction of what is left, rewinds, trains; again and again.

  Args:
    params: a trained parameter tree.
    train: (tree, round from 1) -> the tree after training; it restarts its own
      learning-rate schedule. Where it donates the tree (`jax.jit(donate_argnums=)`), copy
      what you keep of `params` and of the trees before: rounds share arrays.
    fraction: of the remaining weights that each round prunes; above 0, below 1.
    rounds: at most so many; stop earlier by not asking for the next.
    rewind_to: the tree whose values the weights go back to before training:
      initial values (Frankle and Carbin 2019), those of an early epoch (Frankle
      et al. 2020, "Linear mode connectivity"), or the pre-trained ones (Chen et
      al. 2020). None keeps the weights, so that only the learning rate rewinds
      (Renda et al. 2020, "Comparing rewinding and fine-tuning").
    prune: (tree, sparsity) -> tree with masks; the default is global magnitude.

  Yields:
    (sparsity, tree) after each round; what masks have pruned before counts.

  Raises:
    ValueError: a number out of range, or as in `rewind`.

  Example:
    >>> import jax.numpy as jnp
    >>> halved = iterative({"w": jnp.arange(8.0)[None]}, lambda p, i: p, fraction=0.5, rounds=2)
    >>> [(s, p["w"].mask.sum().item()) for s, p in halved]
    [(0.5, 4), (0.75, 2)]
  """
  if not 0 < fraction < 1:
    raise ValueError(f"fraction={fraction}: must be above 0, below 1")
  checks.whole("rounds", rounds, 1)
  left = 1 - already_pruned(params, prune)
  for number in range(1, rounds + 1):
    # Each round leaves (1 - fraction) of what the one before left.
    sparsity = 1 - left * (1 - fraction) ** number
    params = prune(params, sparsity)
    if rewind_to is not None:
      params = rewind(params, rewind_to)
    params = train(params, number)
    yield sparsity, params


def rewind(params: Any, values: Any) -> Any:
  """Puts weights back to other values; masks and grids stay, and what holds no floats.

  Args:
    params: a parameter tree.
    values: a tree of the same paths, of arrays or leaves.

  Returns:
    `params` with copies of the values of `values`, each of its own dtype.

  Raises:
    ValueError: a path is missing or there twice, a shape differs, or a leaf has no values
      to put back (a codebook, factors, quantized integers).

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> pruned = cj.prune.magnitude({"w": jnp.array([[3.0, 1.0]])}, 0.5)
    >>> rewind(pruned, {"w": jnp.array([[5.0, 7.0]])})["w"].dense().tolist()
    [[5.0, 0.0]]
  """
  old, (flat, structure) = tree.by_path(values), tree.entries(params)
  return jax.tree_util.tree_unflatten(structure, [_put_back(path, x, old) for path, x in flat])


def _put_back(path: str, x: Any, old: dict[str, Any]) -> Any:
  if path not in old or getattr(old[path], "shape", None) != getattr(x, "shape", None):
    given = f"a shape of {getattr(old[path], 'shape', None)}" if path in old else "nothing"
    raise ValueError(f"{path}: values has {given} there; must have {getattr(x, 'shape', x)}")
  if not tree.is_inexact(x):
    return x  # a counter, a key, a function: nothing that was trained
  with checks.at(path):
    # A copy: a training that is donated the tree must not take what the next round goes back to.
    return with_value(x, jnp.array(dense_of(old[path]), x.dtype))


def gradual(params: Any, step: Array | int, schedule: Callable[[Array | int], Array], *,
            every: Array | int = 1, start: Array | int = 0,
            stop: Array | float | None = None, prune: Prune = magnitude) -> Any:
  """Raises the sparsity inside a compiled training step.

  Nothing changes shape: give the first step masks already (`magnitude(params,
  0.0)`), and carry the whole tree from step to step.

  Args:
    params: a parameter tree whose selected leaves have masks.
    step: the present step; may be traced.
    schedule: step -> sparsity: `cj.schedules.cubic(0.9, stop=1000)`, say, or one of Optax's.
    every: steps from one pruning to the next, from 1; ranking takes a sort.
    start: the first step that prunes, from which `every` counts: where the schedule starts,
      where that begins above 0.
    stop: where the schedule ends: at the first step from there on the tree is pruned
      in any case, so that the last sparsity is reached whatever `every` is. That step
      must be one that is taken.
    prune: (tree, sparsity) -> tree with masks; the default is global magnitude.

  Returns:
    The tree, its masks as sparse as the schedule says; they only add up.

  Raises:
    ValueError: a leaf that would be pruned has no mask yet, or `every` is below 1.

  Source: Zhu and Gupta 2017, "To prune, or not to prune", section 3.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.prune.magnitude({"w": jnp.arange(1.0, 9)[None]}, 0.0)
    >>> at = jax.jit(lambda p, step: gradual(p, step, cj.schedules.cubic(0.5, stop=10)))
    >>> [cj.count(at(params, step))[1] for step in (0, 5, 10)]
    [8, 4, 4]
  """
  checks.integer("every", every, 1, math.inf)

  # Functions among the parameters cannot be traced.
  arrays, rebuild = tree.arrays_of(params)
  # Here, where a number is known unless the step is traced: pruning refuses what is no fraction.
  sparsity = schedule(step)

  def pruned(arrays: Any) -> Any:
    return prune(rebuild(arrays), sparsity)

  _check_masks(params, arrays, pruned)
  due = (step >= start) & ((step - start) % every == 0)
  if stop is not None:
    due |= step == jnp.ceil(stop)
  return rebuild(jax.lax.cond(
      due, lambda arrays: tree.arrays_of(pruned(arrays))[0], lambda arrays: arrays, arrays))


def _check_masks(params: Any, arrays: Any, pruned: Callable[[Any], Any]) -> None:
  """Raises a ValueError where a pruning would add a mask, and so change the tree's structure."""
  after: list[Any] = []

  def note(arrays: Any) -> None:
    after.extend(jax.tree.structure(x) for _, x in tree.entries(pruned(arrays))[0])

  jax.eval_shape(note, arrays)  # traced for its structure: nothing is computed
  before = tree.entries(params)[0]
  changed = [path for (path, x), structure in zip(before, after, strict=True)
             if jax.tree.structure(x) != structure]
  if changed:
    raise ValueError(f"{', '.join(changed[:4])}: no such mask yet; call this same prune(params, "
                     "0.0) before training")

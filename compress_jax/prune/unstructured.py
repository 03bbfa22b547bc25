"""Pruning of single weights: by magnitude, at random, by sensitivity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import checks, tree
from compress_jax.leaves import dense_of, mask_of
from compress_jax.leaves.base import Array
from compress_jax.prune.ranking import keep_largest, magnitudes, pruned_first, with_masks


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
    where: regular expression or predicate on the path; by default every weight
      of two or more dimensions (see `cj.transform`). A low-rank leaf has its factors pruned.

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
  chosen, rebuild = selected(params, where)
  scores = [magnitudes(x) for _, x in chosen]
  return rebuild(_masked(chosen, scores, sparsity, scope))


def random(params: Any, sparsity: Array | float, key: Array, *, scope: str = "global",
           where: tree.Where = None) -> Any:
  """Masks weights at random, the baseline of every pruning criterion.

  Args:
    params: a parameter tree.
    sparsity: as in `magnitude`.
    key: a PRNG key.
    scope: as in `magnitude`.
    where: as in `magnitude`.

  Returns:
    The tree with `Masked` leaves.

  Raises:
    ValueError: as in `magnitude`.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.count(cj.prune.random({"w": jnp.ones((4, 4))}, 0.75, jax.random.key(0)))
    (16, 4)
  """
  chosen, rebuild = selected(params, where)
  keys = jax.random.split(key, len(chosen))
  scores = [pruned_first(jax.random.uniform(k, x.shape), x)
            for k, (_, x) in zip(keys, chosen, strict=True)]
  return rebuild(_masked(chosen, scores, sparsity, scope))


def snip(loss: Callable[[Any], Array], params: Any, sparsity: Array | float, *,
         scope: str = "global", where: tree.Where = None) -> Any:
  """Masks the weights whose removal changes a loss least, to first order.

  The score is `|gradient * weight|` of the plain weights, at initialization in the paper.

  Args:
    loss: scalar function of a parameter tree of arrays (a batch is inside).
    params: a parameter tree.
    sparsity: as in `magnitude`.
    scope: as in `magnitude`; the paper's is global.
    where: as in `magnitude`.

  Returns:
    The tree with `Masked` leaves.

  Raises:
    ValueError: as in `magnitude`, or gradients that are not finite.

  Source: Lee, Ajanthan and Torr 2019, "SNIP", equation 5.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> loss = lambda p: (p["w"] * jnp.array([[1.0, 10.0]])).sum()
    >>> cj.prune.snip(loss, {"w": jnp.array([[3.0, 1.0]])}, 0.5)["w"].mask.tolist()
    [[False, True]]
  """
  chosen, rebuild = selected(params, where)
  values = [dense_of(x) for _, x in chosen]
  # By the plain weights: a mask would stop the gradients of what it holds at zero.
  grads = jax.grad(lambda values: loss(tree.dense(rebuild(values))))(values)
  scores = []
  for w, g, (path, x) in zip(values, grads, chosen, strict=True):
    checks.finite(path, g, "gradients")
    # In float32: products of small numbers are lost in float16.
    score = jnp.abs(w.astype(jnp.float32) * g.astype(jnp.float32))
    scores.append(pruned_first(score, x))
  return rebuild(_masked(chosen, scores, sparsity, scope))


def _masked(chosen: list[tree.Entry], scores: list[Array], sparsity: Array | float,
            scope: str) -> list[Any]:
  """Returns the leaves with the weights of the smallest scores masked."""
  return with_masks(chosen, keep_largest(scores, sparsity, scope))


def selected(params: Any, where: tree.Where) -> tuple[list[tree.Entry], Any]:
  """Selects what is pruned, after checking that it can be ranked.

  Args:
    params: a parameter tree.
    where: as in `magnitude`.

  Returns:
    What `tree.select_parts` does: [(path, leaf)], and a function that puts leaves in
    their places.

  Raises:
    ValueError: nothing selected, or weights that are not finite.
  """
  chosen, rebuild = tree.select_parts(params, where)
  for path, x in chosen:
    with checks.taken([path], where is None), checks.at(path):
      checks.finite(path, x)
      mask_of(x)  # a leaf that cannot say is refused here, where its path is known
  return chosen, rebuild

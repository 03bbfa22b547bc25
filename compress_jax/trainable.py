"""What of a tree trains, apart from the rest."""

from __future__ import annotations

from typing import Any

import jax

from compress_jax import names
from compress_jax.leaves import is_node
from compress_jax.tree import Entry, Where, entries, is_inexact, matcher


def partition(params: Any, trainable: Where = None) -> tuple[Any, Any]:
  """Splits a tree into what the optimizer sees and the rest.

  Args:
    params: a parameter tree of arrays and leaves.
    trainable: regular expression or predicate on the path: of which leaves the fields
      that they name in `trains` do. None is all that are no statistics: nothing in the
      collections that Linen keeps beside "params", nothing called after a running
      mean or variance, nor the `mean` and `var` that stand beside each other.

  Returns:
    (trainable, rest): trees of the same shape with None in the other's places.
    Floating-point and complex arrays train; of a leaf, the fields that it names in `trains`.
    Integers, PRNG keys and what is not an array never do.

  Raises:
    ValueError: `trainable` matches nothing that could train, or is None and floats lie
      beside Linen's "params" of which nothing tells whether they train.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> trainable, rest = cj.partition(cj.prune.magnitude({"w": jnp.eye(2)}, 0.5))
    >>> [x.dtype.name for x in jax.tree.leaves(trainable)]
    ['float32']
    >>> norm = {"mean": jnp.zeros(2), "var": jnp.ones(2), "scale": jnp.ones(2)}
    >>> cj.partition(norm)[0]
    {'mean': None, 'scale': Array([1., 1.], dtype=float32), 'var': None}
  """
  flat, structure = entries(params)
  if trainable is None:
    fixed = names.statistics([path for path, _ in flat])
    _check_told(flat, fixed)
    marked = [trains(x, path not in fixed) for path, x in flat]
  else:
    match = matcher(trainable)
    marked = [trains(x, match(path, x)) for path, x in flat]
    if not any(jax.tree.leaves(marked)):
      raise ValueError(f"trainable={trainable!r} matches nothing that can train; must match one "
                       f"of: {', '.join(path for path, _ in flat[:8])}")
  flags = jax.tree_util.tree_unflatten(structure, marked)
  chosen = jax.tree.map(lambda x, t: x if t else None, params, flags)
  rest = jax.tree.map(lambda x, t: None if t else x, params, flags)
  return chosen, rest


def _check_told(flat: list[Entry], fixed: set[str]) -> None:
  """Raises where the names of a tree do not tell which of its floats train."""
  unknown = set(names.beside_params([path for path, _ in flat], fixed))
  floats = [path for path, x in flat if path in unknown and is_inexact(x)]
  if floats:
    raise ValueError(f"trainable=None: {', '.join(floats[:8])} beside 'params', which may train or "
                     "not; must be told: trainable='^params/' for 'params' alone, or a pattern of "
                     "all that trains")


def merge(trainable: Any, rest: Any) -> Any:
  """Puts together what `partition` took apart.

  Args:
    trainable: the first tree.
    rest: the second.

  Returns:
    The whole tree.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> cj.merge(*cj.partition({"w": jnp.float32(1)}))
    {'w': Array(1., dtype=float32)}
  """
  return jax.tree.map(lambda a, b: b if a is None else a, trainable, rest,
                      is_leaf=lambda x: x is None)


def trains(x: Any, inside: bool = True) -> Any:
  """Returns which arrays of a tree train.

  Args:
    x: a parameter tree, a leaf, an array or None.
    inside: whether what holds `x` lets it train.

  Returns:
    A tree of bools, like `x`.
  """
  def one(y: Any) -> Any:
    if not is_node(y):
      return inside and is_inexact(y)
    # A node says which of its fields train; deeper ones train if all around them do.
    fields = {name: trains(value, inside and name in y.trains)
              for name, value in y.fields().items()}
    return y.replace(**fields)

  return jax.tree.map(one, x, is_leaf=is_node)

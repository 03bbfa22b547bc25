"""An optimizer of trees that hold compressed leaves: partition and merge, inside one wrapper."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from compress_jax import tree
from compress_jax.io import containers
from compress_jax.trainable import merge, partition


def optimize(optimizer: Any, trainable: tree.Where = None) -> Any:
  """Wraps an optax optimizer so that it takes whole trees, compressed leaves included.

  A training step on compressed leaves is then the usual one, with Flax's `TrainState`, with
  Equinox, or in a bare loop. `jax.grad` must be told `allow_int=True`, because masks and integers
  are among what it differentiates by; Equinox's `filter_grad` passes them over by itself.

  Args:
    optimizer: an `optax.GradientTransformation`, or anything with `init` and `update` that is
      made of these two.
    trainable: which leaves train; see `partition`. A Python number among the parameters never
      does, but `jax.jit` makes an array of it, which would: keep it out of what is traced, as
      Equinox's `filter_jit` does. Complex arrays train as `optimizer` trains them: to descend,
      optax must be given the conjugates of their gradients.

  Returns:
    One of the same type. Its state is of what trains; `update` needs the parameters, and returns
    zeros for arrays that do not train. For what nothing can be added to (PRNG keys, functions,
    Python numbers) it returns None, which `cj.apply_updates` understands and
    `optax.apply_updates` does not.

  Raises:
    ValueError: `trainable` matches nothing that could train, or `update` gets no parameters.

  Example:
    >>> import optax
    >>> import compress_jax as cj
    >>> params = cj.prune.magnitude({"w": jnp.array([[3.0, 0.1], [0.2, 2.0]])}, 0.5)
    >>> tx = cj.optimize(optax.sgd(0.5))
    >>> loss = lambda params: (cj.dense(params)["w"] ** 2).sum()
    >>> grads = jax.grad(loss, allow_int=True)(params)
    >>> updates, state = tx.update(grads, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
    >>> cj.dense(params)["w"].tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    >>> params["w"].mask.tolist()
    [[True, False], [False, True]]
  """
  def init(params: Any) -> Any:
    return optimizer.init(partition(params, trainable)[0])

  def update(updates: Any, state: Any, params: Any = None, **more: Any) -> tuple[Any, Any]:
    if params is None:
      raise ValueError("params=None: must be the parameters; what trains is found in them")
    trains, rest = partition(params, trainable)
    new, state = optimizer.update(_of_what_trains(trains, updates), state, trains, **more)
    return merge(new, jax.tree.map(_nothing, rest)), state

  return type(optimizer)(init, update)


def apply_updates(params: Any, updates: Any) -> Any:
  """Adds updates to parameters, as `optax.apply_updates` does; where there is None, nothing.

  Args:
    params: a parameter tree; it may hold PRNG keys (dropout's, in NNX) and functions.
    updates: of the same structure, from an optimizer that `optimize` wrapped.

  Returns:
    The parameters, each array of its dtype.

  Example:
    >>> import jax
    >>> params = {"w": jnp.zeros(2), "key": jax.random.key(0)}
    >>> apply_updates(params, {"w": jnp.ones(2), "key": None})["w"].tolist()
    [1.0, 1.0]
  """
  return jax.tree.map(_added, params, updates)


def _added(x: Any, update: Any) -> Any:
  return x if update is None else jnp.asarray(x + update).astype(x.dtype)


def _of_what_trains(trains: Any, updates: Any) -> Any:
  """Returns the updates of what trains, with None in the place of the others."""
  return jax.tree.map(lambda x, update: None if x is None else update, trains, updates,
                      is_leaf=lambda x: x is None)


def _nothing(x: Any) -> Any:
  """Returns what changes nothing when it is added: zeros, or None beside what is not an array."""
  if not hasattr(x, "dtype") or containers.is_key(x) or containers.plain(x) is None:
    return None
  return jnp.zeros_like(x)

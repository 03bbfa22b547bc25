"""Several processes of one JAX program: which one writes, and where they wait for each other."""

from __future__ import annotations

import uuid
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost


def several() -> bool:
  """Returns whether `jax.distributed` connects this process with others."""
  return jax.distributed.is_initialized() and jax.process_count() > 1


def first() -> bool:
  """Returns whether this process writes what all have."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait(where: str) -> None:
  """Waits until all processes are there; does nothing where there is one.

  Args:
    where: the same in all of them.
  """
  if several():
    multihost_utils.sync_global_devices(where)


def meet(where: str, seconds: int = 600) -> None:
  """Waits until all processes are there, in whatever thread; does nothing where there is one.

  `wait` computes on the devices to do so, which must come in one order in all processes; what
  goes on beside a training cannot know that order.

  Args:
    where: the same in all of them, and never used before.
    seconds: after which it is an error that some are not there.
  """
  if several():
    barrier = multihost.get_barrier_sync_fn(processes=set(range(jax.process_count())))
    barrier(key=where, timeout_ms=seconds * 1000)


def scattered(x: Any) -> bool:
  """Returns whether other processes hold elements of an array that this one does not.

  Args:
    x: anything.

  Example:
    >>> scattered(np.ones(2))
    False
  """
  return isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)


def whole(tree: Any) -> Any:
  """Returns a tree whose arrays this process has whole; all processes call it.

  Args:
    tree: any pytree.

  Returns:
    The tree; scattered arrays are NumPy's in it, the others as they were.

  Example:
    >>> whole({"w": 1})
    {'w': 1}
  """
  if not several():
    return tree
  return jax.tree.map(
      lambda x: multihost_utils.process_allgather(x, tiled=True) if scattered(x) else x, tree)


def token() -> str:
  """Returns eight hex digits that nobody had before, the same in all processes.

  Example:
    >>> len(token())
    8
  """
  made = np.frombuffer(uuid.uuid4().bytes[:4], np.uint32)
  if several():
    made = np.asarray(multihost_utils.broadcast_one_to_all(made), np.uint32)
  return made.tobytes().hex()

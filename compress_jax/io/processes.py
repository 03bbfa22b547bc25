"""Several processes of one JAX program: which one writes, and where they wait for each other."""

from __future__ import annotations

import uuid

import jax
import numpy as np
from jax.experimental import multihost_utils


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

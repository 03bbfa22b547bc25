"""One training over several processes, on one machine or many: who writes, and what all agree on.

Every process runs the same study in the same order. Training spreads each batch over the
devices of all; everything else (evaluation, calibration, deployment) each process does on its
own. The first process alone prints and writes, into a workdir that all of them see, and the
others wait for it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from compress_jax.io.processes import first, several, wait, whole
from experiments import faults

__all__ = ["first", "of_first", "own", "several", "start", "wait"]

# Seconds without a sign of life after which the other processes end.
_SILENCE = 30


def start(coordinator: str = "", processes: int = 0, number: int = -1) -> None:
  """Connects this process with the others; nothing has been computed yet.

  Args:
    coordinator: host:port where the first process can be reached; "" is found out, which
      works on TPUs, under Slurm and under Open MPI.
    processes: how many there are; 0 is found out.
    number: of this process, from 0; -1 is found out.

  Raises:
    ValueError: the processes cannot be found, or do not meet.
  """
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  # Or SIGTERM would be JAX's, which waits for a checkpoint that nobody makes.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
        coordinator or None, processes or None, None if number < 0 else number,
        heartbeat_timeout_seconds=_SILENCE, shutdown_timeout_seconds=_SILENCE)
  except (ValueError, RuntimeError) as error:
    raise ValueError(
        f"--distributed: {faults.in_one_line(error)}; --coordinator, --num_processes and "
        "--process_id must be given where they are not found") from error


def of_first(value: Any) -> Any:
  """Returns the first process's numbers in all of them, so that all decide alike.

  Args:
    value: a number, a bool, or a tuple of them.

  Example:
    >>> of_first((0.5, True))
    (0.5, True)
  """
  if not several():
    return value
  sent = multihost_utils.broadcast_one_to_all(jax.tree.map(np.float64, value))
  return jax.tree.map(lambda old, new: type(old)(new), value, sent)


def own(tree: Any) -> Any:
  """Returns a tree whose arrays are this process's own and whole; all processes call it.

  Args:
    tree: a pytree of arrays.
  """
  if not several():
    return tree
  # Through the host: what computes with them must not wait for other processes.
  return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), whole(tree))

"""Batches spread over the local devices: data parallelism without a flag."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import cpu


def mesh(batch_size: int) -> Mesh | None:
  """Returns a mesh, axis "batch", of as many local devices as divide a batch evenly.

  Args:
    batch_size: images per batch.

  Returns:
    The mesh, or None where one device is all that can be used.

  Example:
    >>> mesh(1) is None
    True
  """
  devices = jax.local_devices()
  # JAX spreads an axis in equal parts only.
  count = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
  return Mesh(np.array(devices[:count]), ("batch",)) if count > 1 else None


def compute_dtype(asked: str) -> str:
  """Returns the precision in which models compute; parameters and losses are float32 always.

  Args:
    asked: "float32", "bfloat16", or "auto": bfloat16 on a GPU, a TPU, and a CPU that
      has instructions for it which XLA is told to use (`cpu.prepare`); else float32.

  Example:
    >>> compute_dtype("float32")
    'float32'
  """
  if asked != "auto":
    return asked
  fast = jax.default_backend() != "cpu" or cpu.fast_in_bfloat16()
  return "bfloat16" if fast else "float32"


def everywhere(tree: Any, on: Mesh | None) -> Any:
  """Returns a tree whose arrays every device of the mesh holds whole.

  Args:
    tree: a pytree of arrays.
    on: the mesh; None returns the tree as it is.
  """
  if on is None:
    return tree
  return jax.device_put(tree, NamedSharding(on, PartitionSpec()))


def spread(x: Any, on: Mesh | None, axis: int) -> Any:
  """Returns an array of which every device of the mesh holds a part along one axis.

  Args:
    x: an array; the mesh's size divides that axis evenly.
    on: the mesh; None puts all of it on the default device.
    axis: the number of the axis, from 0.
  """
  if on is None:
    return jax.numpy.asarray(x)
  before = [None] * axis  # axes in front of it are not split
  return jax.device_put(x, NamedSharding(on, PartitionSpec(*before, "batch")))

"""Batches spread over all devices: data parallelism without a flag."""

from __future__ import annotations

import collections
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import cpu, hosts


def mesh(batch_size: int, *, own: bool = False) -> Mesh | None:
  """Returns a mesh, axis "batch", of as many devices as divide a batch evenly.

  Args:
    batch_size: images per batch.
    own: whether to take the devices of this process only, where there are several.

  Returns:
    The mesh, or None where one device is all that can be used.

  Raises:
    ValueError: several processes, of which some would have no part of a batch.

  Example:
    >>> mesh(1) is None
    True
  """
  processes = 1 if own or not hosts.several() else jax.process_count()
  if batch_size % processes:
    raise ValueError(f"batch_size={batch_size}: must be a multiple of the {processes} processes "
                     "that train together")
  # JAX spreads an axis in equal parts only, and every process must have as many of them.
  each = jax.local_device_count()
  each = max(n for n in range(1, each + 1) if batch_size % (n * processes) == 0)
  if processes == 1:
    chosen = jax.local_devices()[:each]
  else:
    of = collections.defaultdict(list)
    for device in jax.devices():
      of[device.process_index].append(device)
    chosen = [device for number in sorted(of) for device in of[number][:each]]
  return Mesh(np.array(chosen), ("batch",)) if len(chosen) > 1 else None


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
  return jax.tree.map(lambda x: _put(x, NamedSharding(on, PartitionSpec())), tree)


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
  return _put(x, NamedSharding(on, PartitionSpec(*before, "batch")))


def _put(x: Any, sharding: NamedSharding) -> Any:
  """Returns an array with a sharding; every process has the whole of it."""
  if sharding.is_fully_addressable:
    return jax.device_put(x, sharding)
  if isinstance(x, jax.Array):
    if not x.is_fully_addressable:
      return jax.device_put(x, sharding)
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
      data = _put(jax.random.key_data(x), sharding)
      return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
  whole = np.asarray(x)
  return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

"""Batches spread over all devices, and parameters too where that is asked for.

Data parallelism comes without a flag: every device holds the parameters and a part of each batch.
With `fsdp` devices in a group (fully sharded data parallelism), each holds a part of the
parameters, the optimizer's state and the averages too, and a layer is put together when it is
computed: what XLA's partitioner makes of the shardings that are said here.

Source: Rajbhandari et al. 2020 (ZeRO), stage 3; Xu et al. 2021 (GSPMD).
"""

from __future__ import annotations

import collections
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import cpu, hosts

AXES = ("data", "fsdp")
# Elements from which an array is spread: to gather fewer costs more than they take.
_FEW = 1024


def mesh(batch_size: int, *, own: bool = False, fsdp: int = 1) -> Mesh | None:
  """Returns a mesh of as many devices as divide a batch evenly.

  Args:
    batch_size: images per batch.
    own: whether to take the devices of this process only, where there are several.
    fsdp: devices of a group that share the parameters; 0 is all of them.

  Returns:
    The mesh, axes "data" (groups) and "fsdp" (devices of a group), or None where one device is
    all that can be used.

  Raises:
    ValueError: several processes, of which some would have no part of a batch, or groups that
      the devices do not divide into.

  Example:
    >>> mesh(1) is None
    True
  """
  chosen = _devices(batch_size, 1 if own or not hosts.several() else jax.process_count())
  fsdp = fsdp or len(chosen)
  if len(chosen) % fsdp:
    raise ValueError(f"mesh.fsdp={fsdp}: must divide {len(chosen)}, the devices here that share a "
                     f"batch of {batch_size}")
  if len(chosen) == 1:
    return None
  return Mesh(np.array(chosen).reshape(-1, fsdp), AXES)


def _devices(batch_size: int, processes: int) -> list[Any]:
  """Returns the devices that share a batch, as many of each process."""
  if batch_size % processes:
    raise ValueError(f"batch_size={batch_size}: must be a multiple of the {processes} processes "
                     "that train together")
  # JAX spreads an axis in equal parts only, and every process must have as many of them.
  each = jax.local_device_count()
  each = max(n for n in range(1, each + 1) if batch_size % (n * processes) == 0)
  if processes == 1:
    return jax.local_devices()[:each]
  of = collections.defaultdict(list)
  for device in jax.devices():
    of[device.process_index].append(device)
  return [device for number in sorted(of) for device in of[number][:each]]


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


def described(dtype: str) -> str:
  """Returns what trains here, for people: the devices, and the precision.

  Args:
    dtype: "float32" or "bfloat16".
  """
  devices = jax.devices()
  kind = str(devices[0].device_kind)
  if jax.default_backend() == "cpu":
    kind = f"CPU ({cpu.name()})" if cpu.name() else "CPU"
  text = f"{kind} in {dtype}" if len(devices) == 1 else f"{len(devices)} x {kind} in {dtype}"
  faster = compute_dtype("auto")
  # A workdir keeps the precision of the machine that began there.
  return text if faster == dtype else f"{text} ({faster} is faster here)"


def everywhere(tree: Any, on: Mesh | None) -> Any:
  """Returns a tree whose arrays every device of the mesh holds whole.

  Args:
    tree: a pytree of arrays.
    on: the mesh; None returns the tree as it is.
  """
  if on is None:
    return tree
  return jax.tree.map(lambda x: _put(x, NamedSharding(on, PartitionSpec())), tree)


def placed(tree: Any, on: Mesh | None) -> Any:
  """Returns a tree of parameters and the like, spread over the devices of each group.

  Args:
    tree: a pytree of arrays, which every process has whole.
    on: the mesh; None returns the tree as it is.
  """
  if on is None:
    return tree
  return jax.tree.map(lambda x: _put(x, _sharding(x, on)), tree)


def constrained(tree: Any, on: Mesh | None) -> Any:
  """Returns, inside a compiled function, a tree that stays spread as `placed` has it.

  Args:
    tree: a pytree of arrays.
    on: the mesh; None, or one whose devices share no parameters, returns the tree as it is.
  """
  if on is None or on.shape["fsdp"] == 1:
    return tree
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, _sharding(x, on)), tree)


def _sharding(x: Any, on: Mesh) -> NamedSharding:
  """Returns where an array of parameters is: its longest axis that divides evenly is spread."""
  shape, fsdp = np.shape(x), on.shape["fsdp"]
  even = [axis for axis, n in enumerate(shape) if n % fsdp == 0]
  if fsdp == 1 or not even or math.prod(shape) < _FEW:
    return NamedSharding(on, PartitionSpec())
  axis = max(even, key=lambda axis: shape[axis])
  return NamedSharding(on, PartitionSpec(*[None] * axis, "fsdp"))


def spread(x: Any, on: Mesh | None, axis: int) -> Any:
  """Returns an array of which every device of the mesh holds a part along one axis.

  Args:
    x: an array; the mesh's size divides that axis evenly.
    on: the mesh; None puts all of it on the default device.
    axis: the number of the axis, from 0.
  """
  if on is None:
    return jnp.asarray(x)
  return _put(x, _along(axis, on))


def read(part: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], dtype: Any,
         on: Mesh | None, axis: int) -> jax.Array:
  """Returns an array that is spread as by `spread`, and of which each process makes its part.

  Args:
    part: takes a slice of each axis, returns those elements.
    shape: of the whole.
    dtype: of the whole.
    on: the mesh; None puts all of it on the default device.
    axis: the number of the axis, from 0.

  Example:
    >>> read(lambda where: np.arange(4)[where], (4,), np.int32, None, 0).tolist()
    [0, 1, 2, 3]
  """
  if on is None:
    return jnp.asarray(part((slice(None),) * len(shape)), dtype)
  return jax.make_array_from_callback(shape, _along(axis, on), part, dtype=dtype)


def _along(axis: int, on: Mesh) -> NamedSharding:
  """Returns the sharding of which every device has a part along one axis."""
  return NamedSharding(on, PartitionSpec(*[None] * axis, AXES))


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

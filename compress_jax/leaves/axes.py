"""What is done to the axes of a field that is laid out like a weight: array, leaf or None.

Along each axis such a field is as long as the weight, or 1, or has one entry for each group of
indices. A leaf inside does the same to its own fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from compress_jax.leaves.dtypes import at_least_int32
from compress_jax.leaves.nodes import is_node

if TYPE_CHECKING:
  from typing_extensions import TypeIs

  from compress_jax.leaves.base import Leaf


def _is_leaf(x: Any) -> TypeIs[Leaf]:
  # `base` imports this module, so its own test cannot be had. Any node will do: only leaves are
  # laid out like a weight.
  return is_node(x)


def transposed(x: Any, order: tuple[int, ...]) -> Any:
  """Returns an array, leaf or None with its axes in another order; a scalar stays.

  Args:
    x: a field that is laid out like a weight.
    order: which axis comes at each place.

  Returns:
    The same, laid out so.
  """
  if _is_leaf(x):
    return x.transposed(order)
  return x if x is None or x.ndim == 0 else jnp.transpose(x, order)


def stacked(x: Any, length: int, ndim: int) -> Any:
  """Returns a field of a stack of weights with one entry for every slice of a loop.

  Args:
    x: an array, leaf or None.
    length: of the loop.
    ndim: dimensions of the field in a single slice. With one more it is of the stack:
      its first axis is as long as the loop, or 1, or has one entry for each group of slices.
      With as many all slices share it.

  Returns:
    The same with a first axis as long as the loop.
  """
  if x is None:
    return None
  if is_node(x):
    if getattr(x, "ndim", ndim + 1) > ndim:
      return x.stacked(length)
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (length, *a.shape)), x)
  if x.ndim <= ndim:
    return jnp.broadcast_to(x, (length, *x.shape))
  if 1 < x.shape[0] < length:
    return jnp.repeat(x, length // x.shape[0], 0)
  return jnp.broadcast_to(x, (length, *x.shape[1:]))


def pieces(x: Any, axis: int, count: int) -> Any:
  """Cuts an axis of a field that is laid out like a weight into pieces.

  Args:
    x: an array, leaf or None.
    axis: of the weight.
    count: how many pieces.

  Returns:
    The same with the pieces stacked in front; where the axis is 1, it goes into each.
  """
  if _is_leaf(x):
    return x.replace(**x.pieces(axis, count))
  if x is None:
    return None
  if x.ndim == 0 or x.shape[axis] == 1:
    return jnp.broadcast_to(x, (count, *x.shape))
  shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1:])
  return jnp.moveaxis(x.reshape(shape), axis, 0)


def taken(x: Any, rows: jax.Array, count: int) -> Any:
  """Returns the part of a field that belongs to some rows of the weight.

  Args:
    x: an array, leaf or None.
    rows: int array, (n,).
    count: rows of the weight.

  Returns:
    The same for n rows.
  """
  rows = rows.astype(at_least_int32(rows.dtype))
  if _is_leaf(x):
    return x.taken(rows)
  # An entry that several rows share is that of any number of them; a weight's only row is not.
  if x is None or x.ndim == 0 or (x.shape[0] == 1 and count > 1):
    return x
  # Where groups of rows share an entry, a row has its group's.
  return jnp.take(x, rows // (count // x.shape[0]), axis=0, mode="clip")


def reversed_(x: Any, dims: tuple[int, ...]) -> Any:
  """Returns a field with some axes the other way round.

  Args:
    x: an array, leaf or None.
    dims: the axes.

  Returns:
    The same, reversed.
  """
  if _is_leaf(x):
    return x.reversed(dims)
  return x if x is None or x.ndim == 0 else jnp.flip(x, dims)


def sliceable(x: Any, taken: Sequence[slice], shape: tuple[int, ...]) -> bool:
  """Tells whether a part of a field belongs to a part of the weight.

  Args:
    x: an array, leaf or None.
    taken: of every axis of the weight.
    shape: of the weight.

  Returns:
    False where an axis is cut along which groups of indices share an entry.
  """
  if _is_leaf(x) or x is None or x.ndim == 0:
    return True
  for one, count, size in zip(taken, x.shape, shape, strict=True):
    whole = len(range(size)[one]) == size
    if count not in (1, size) and not whole:
      return False
  return True


def sliced(x: Any, taken: Sequence[slice]) -> Any:
  """Returns the part of a field that belongs to a part of the weight.

  Args:
    x: an array, leaf or None.
    taken: of every axis of the weight.

  Returns:
    The same, cut.
  """
  if _is_leaf(x):
    return x.sliced(*zip(*((one.start, one.stop, one.step) for one in taken), strict=True))
  if x is None or x.ndim == 0:
    return x
  # An axis of 1 is shared by all that is left.
  return x[tuple(one if size > 1 else slice(None)
                 for one, size in zip(taken, x.shape, strict=True))]


def squeezed(x: Any, dims: tuple[int, ...]) -> Any:
  """Returns a field without some axes, of which the weight has one index each.

  Args:
    x: an array, leaf or None.
    dims: the axes.

  Returns:
    The same with fewer axes.
  """
  if _is_leaf(x):
    return x.squeezed(dims)
  return x if x is None or x.ndim == 0 else jnp.squeeze(x, dims)


def cuttable(x: Any, shards: Sequence[int]) -> bool:
  """Tells whether each device's part of a weight has a part of a field of its own.

  Args:
    x: an array, leaf or None.
    shards: into how many parts each axis of the weight is cut.

  Returns:
    False where a cut goes through a group of indices that share an entry.
  """
  if _is_leaf(x) or x is None or x.ndim == 0:
    return True
  return all(size == 1 or size % count == 0
             for size, count in zip(x.shape, shards, strict=True))


def partition_specs(x: Any, spec: tuple[Any, ...], shards: Sequence[int]) -> Any:
  """Returns how a field is cut where the weight is cut over devices.

  Args:
    x: an array, leaf or None.
    spec: of the weight, one entry for each axis; () for a field that goes whole to every device.
    shards: into how many parts each axis of the weight is cut.

  Returns:
    A tree like `x` with a `PartitionSpec` in the place of each array.
  """
  if not spec:
    return jax.tree.map(lambda a: PartitionSpec(), x)
  if _is_leaf(x):
    return x.partition_specs(spec, shards)
  if x is None or x.ndim == 0:
    return None if x is None else PartitionSpec()
  # An axis of 1 is shared by all parts.
  return PartitionSpec(*(entry if size > 1 else None
                         for entry, size in zip(spec, x.shape, strict=True)))

"""How the axes of a weight that is compressed are rearranged, field by field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, Self

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from compress_jax.leaves import axes
from compress_jax.leaves.nodes import Node, is_node


class UnsupportedError(ValueError):
  """A leaf cannot do what it was asked for."""


class Arranged(Node):
  """A node whose fields follow the axes of the array that it stands for.

  Attributes:
    laid_out: names of the fields that have the axes of `shape`: along each axis as
      long as the weight, or 1, or one entry for each group of indices. With fewer dimensions
      they are scalars of a single weight, in a stack one for each.
    in_slices: (name, dimensions) of the other fields in a single weight. In a stack a field with
      as many dimensions is shared by all slices, with more it has an entry for each index of
      as many axes in front.
  """

  laid_out: ClassVar[tuple[str, ...]] = ()
  in_slices: ClassVar[tuple[tuple[str, int], ...]] = ()

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array that the leaf stands for."""
    raise NotImplementedError(f"{type(self).__name__}.shape")

  @property
  def ndim(self) -> int:
    """The number of dimensions of the array that the leaf stands for."""
    return len(self.shape)

  def transposed(self, order: tuple[int, ...]) -> Self:
    """Returns the leaf with its axes in another order.

    Args:
      order: which axis comes at each place, as `jnp.transpose` takes it.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    def entries(x: jax.Array, count: int) -> jax.Array:
      if sorted(order[:count]) != list(range(count)):
        self._cannot("be transposed", "it is a stack that has an entry for each index of its first "
                     "axes, which must stay in front")
      return jnp.transpose(x, (*order[:count], *range(count, x.ndim)))

    return self._rearranged("be transposed", lambda x: axes.transposed(x, order), entries)

  def stacked(self, length: int) -> Self:
    """Returns the leaf with a leading axis on every array, for a loop to slice.

    Args:
      length: of the loop; the first axis of the weight, which the slices are of.

    Returns:
      The leaf; what all slices share is repeated.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    fields, single = self._laid_out("be sliced by a loop"), self._of_single()
    out = {}
    for name, x in self.fields().items():
      if name in fields:
        out[name] = axes.stacked(x, length, single.get(name, self.ndim - 1))
      elif name in single or x is None:
        out[name] = axes.stacked(x, length, single.get(name, 0))
      else:
        self._cannot("be sliced by a loop", f"`in_slices` does not say what {name} is in a slice")
    return self.replace(**out)

  def taken(self, rows: jax.Array) -> Self:
    """Returns the leaf of some rows, as an embedding looks them up.

    Args:
      rows: int array, (n,), indices of the first axis; what is out of range is clipped.

    Returns:
      The leaf of n rows.
    """
    return self._rearranged("be looked up by rows",
                            lambda x: axes.taken(x, rows, self.shape[0]),
                            lambda x, count: axes.taken(x, rows, x.shape[0]) if count else x)

  def reversed(self, dims: tuple[int, ...]) -> Self:
    """Returns the leaf with some axes the other way round, as transposed convolutions need it.

    Args:
      dims: the axes.

    Returns:
      The leaf.
    """
    return self._rearranged("be reversed", lambda x: axes.reversed_(x, dims),
                            lambda x, count: axes.reversed_(x, _before(count, dims)))

  def sliced(self, start: tuple[int, ...], stop: tuple[int, ...],
             step: tuple[int, ...]) -> Self:
    """Returns the leaf of a part of the weight.

    Args:
      start: the first index of every axis.
      stop: behind the last index of every axis.
      step: from one index to the next of every axis.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: an axis that is shared by groups is cut.
    """
    taken = [slice(*bounds) for bounds in zip(start, stop, step, strict=True)]

    def laid(x: Any) -> Any:
      if not axes.sliceable(x, taken, self.shape):
        self._cannot("be sliced", "the cut axis is quantized in groups")
      return axes.sliced(x, taken)

    return self._rearranged("be sliced", laid, lambda x, count: x[tuple(taken[:count])])

  def squeezed(self, dims: tuple[int, ...]) -> Self:
    """Returns the leaf without some axes of one index.

    Args:
      dims: the axes.

    Returns:
      The leaf.
    """
    return self._rearranged("lose axes", lambda x: axes.squeezed(x, dims),
                            lambda x, count: axes.squeezed(x, _before(count, dims)))

  def pieces(self, axis: int, count: int) -> dict[str, Any]:
    """Cuts an axis into pieces, for `jax.vmap` to run over.

    Args:
      axis: of the weight.
      count: how many pieces; must divide the axis.

    Returns:
      {field: the pieces, stacked in front}; other fields are the same for all pieces.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    stack = [x.ndim - ndim for name, ndim in self._of_single().items()
             for x in jax.tree.leaves(getattr(self, name))]
    if axis < max(stack, default=0):
      self._cannot("be cut into groups", "it is a stack that has an entry for each index of the "
                   "axis")
    return {name: axes.pieces(x, axis, count)
            for name, x in self._laid_out("be cut into groups").items()}

  def partition_specs(self, spec: tuple[Any, ...], shards: Sequence[int]) -> Self:
    """Returns how each array is cut where the weight is cut over devices, for `jax.shard_map`.

    Args:
      spec: the weight's `jax.sharding.PartitionSpec` as a tuple, one entry for each axis.
      shards: into how many parts each axis is cut.

    Returns:
      A tree like the leaf with a `PartitionSpec` in the place of each array; what is not laid
      out like the weight goes whole to every device.

    Raises:
      UnsupportedError: the leaf cannot be cut so.
    """
    whole = self.replace(**{name: axes.partition_specs(x, (), shards)
                            for name, x in self.fields().items()})
    if max(shards, default=1) == 1:
      return whole  # cut nowhere, every leaf can be on every device

    def laid(x: Any) -> Any:
      if not axes.cuttable(x, shards):
        self._cannot("be cut over devices", "the cut would go through a group that shares a grid")
      return axes.partition_specs(x, spec, shards)

    # What does not follow the weight goes whole to every device.
    return whole.replace(**self._followed("be cut over devices", laid,
                                          lambda _, count: PartitionSpec(*spec[:count])))

  def _rearranged(self, what: str, laid: Callable[[Any], Any],
                  entries: Callable[[jax.Array, int], Any]) -> Self:
    """Returns the leaf with its fields rearranged as the weight is; see `_followed`."""
    return self.replace(**self._followed(what, laid, entries))

  def _followed(self, what: str, laid: Callable[[Any], Any],
                entries: Callable[[jax.Array, int], Any]) -> dict[str, Any]:
    """Returns the fields that follow the weight, as they are after what is done to it.

    Args:
      what: the leaf does, for the error.
      laid: what becomes of a field that is laid out like the weight.
      entries: what becomes of an array that has an entry for each index of the first axes of
        a stack, called with the array and with how many axes these are; 0 for an array that
        all share.
    """
    single = self._of_single()
    out = {name: laid(x) for name, x in self._laid_out(what).items() if name not in single}
    for name, ndim in single.items():
      change = lambda x, ndim=ndim: entries(x, max(0, jnp.ndim(x) - ndim))
      out[name] = jax.tree.map(change, getattr(self, name))
    return out

  def _of_single(self) -> dict[str, int]:
    """Returns the fields that have entries in a stack, and their dimensions in a single weight."""
    single = dict(self.in_slices)
    for name in self.laid_out:
      x = getattr(self, name)
      if x is not None and not is_node(x) and x.ndim < self.ndim:
        single[name] = 0
    return single

  def _laid_out(self, what: str) -> dict[str, Any]:
    if not self.laid_out:
      self._cannot(what, "it does not say which of its fields are laid out like the weight")
    return {name: getattr(self, name) for name in self.laid_out}

  def _cannot(self, what: str, remedy: str) -> NoReturn:
    raise UnsupportedError(f"a {type(self).__name__} cannot {what}; {remedy}")


def _before(count: int, dims: tuple[int, ...]) -> tuple[int, ...]:
  """Returns which of some axes are among the first."""
  return tuple(axis for axis in dims if axis < count)

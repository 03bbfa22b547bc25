"""The leaf algebra: what every compressed leaf says about itself."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp

from compress_jax.leaves.nodes import (
  Node,
  Payload,
  bits_of,
  is_node,
  node,
  payload_of,
  static,
)

Array = jax.Array

__all__ = ["Array", "Leaf", "Node", "Payload", "UnsupportedError", "bits_of", "is_leaf", "is_node",
           "node", "payload_of", "pieces", "stacked", "static", "transposed"]


class UnsupportedError(ValueError):
  """A leaf cannot do what it was asked for."""


class Leaf(Node):
  """A node that stands for one dense array of a known shape and dtype.

  A subclass must define `shape`, `dtype`, `dense` and `freeze`. Everything else has
  a default that is right for any leaf, or that raises an `UnsupportedError`: then a
  transform that needs the answer refuses the leaf, and names its path.

  Attributes:
    parts: names of the fields that transforms treat as weights of their own (factors).
    laid_out: names of the fields that have the axes of `shape`: along each axis as
      long as the weight, or 1, or one entry for each group of indices. What
      `transposed`, `stacked` and `pieces` rearrange.
  """

  parts: ClassVar[tuple[str, ...]] = ()
  laid_out: ClassVar[tuple[str, ...]] = ()

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array that the leaf stands for."""
    raise NotImplementedError(f"{type(self).__name__}.shape")

  @property
  def dtype(self) -> jnp.dtype:
    """The dtype of the array that the leaf stands for."""
    raise NotImplementedError(f"{type(self).__name__}.dtype")

  @property
  def ndim(self) -> int:
    """The number of dimensions of the array that the leaf stands for."""
    return len(self.shape)

  @property
  def size(self) -> int:
    """The number of elements of the array that the leaf stands for."""
    return math.prod(self.shape)

  def dense(self) -> Array:
    """Returns the array that the leaf stands for."""
    raise NotImplementedError(f"{type(self).__name__}.dense")

  def freeze(self) -> Leaf:
    """Returns the deployed leaf; its `dense()` has the same bits."""
    raise NotImplementedError(f"{type(self).__name__}.freeze")

  # What is known of the weights.

  def weight_mask(self) -> Array | None:
    """Returns which weights have not been pruned: bool, `shape`; None without a mask."""
    inside = [name for name, value in self.fields().items() if is_leaf(value)]
    if inside and not self.parts:
      self._cannot("say where its mask is", f"`weight_mask` must ask {', '.join(inside)}")
    return None

  def weight_bits(self) -> int:
    """Returns the bits of a weight as products take it; by default the dtype's."""
    return bits_of(self.dtype)

  def step_size(self) -> Array | None:
    """Returns what the weights are multiples of, laid out like them; None for nothing."""
    return None

  @property
  def ranks(self) -> tuple[int, ...]:
    """The ranks of a factorized weight; () for others."""
    return ()

  def block_shape(self) -> tuple[int, int] | None:
    """Returns rows and columns of the blocks that were pruned whole, or None."""
    return None

  # What transforms make of it.

  def masked(self, mask: Array) -> Leaf:
    """Returns the leaf with more of its weights pruned; masks only add up.

    Args:
      mask: bool array of `shape`, false where weights become zero.

    Returns:
      The leaf.
    """
    self._cannot("be masked", "prune before")

  def with_block(self, block: tuple[int, int]) -> Leaf:
    """Returns the leaf knowing in which blocks it was pruned; most store no blocks.

    Args:
      block: rows and columns.

    Returns:
      The leaf.
    """
    return self

  def with_value(self, value: Array) -> Leaf:
    """Returns the leaf around other values, its masks and grids in place.

    Args:
      value: array of `shape`.

    Returns:
      The leaf.
    """
    self._cannot("have its values put back", "it must hold them as they were trained, as a "
                 "Masked, FakeQuant or FakeFloat does")

  def unrounded(self) -> Array | Leaf:
    """Returns what is under any rounding: the value that a new rounding starts from."""
    self._cannot("be rounded again", "quantize before")

  def refitted(self) -> Leaf:
    """Returns the leaf with its grids spanning its present weights; most have none."""
    return self

  def scaled(self, factor: Array) -> Leaf:
    """Returns the leaf times a factor for each output.

    Args:
      factor: array, one number for each index of the last axis.

    Returns:
      The leaf.
    """
    self._cannot("be folded", "fold before quantizing")

  # How products quantize what they apply the weight to.

  @property
  def takes_input_grid(self) -> bool:
    """Whether `lift` can quantize what the weight is applied to."""
    return False

  def input_grid(self) -> Any:
    """Returns the grid (`StaticGrid` or `Dynamic`) of what it is applied to, or None."""
    return None

  def with_input_grid(self, grid: Any) -> Leaf:
    """Returns the leaf with another grid for what it is applied to.

    Args:
      grid: a `StaticGrid` or `Dynamic`; None leaves the input in floating point.

    Returns:
      The leaf.
    """
    self._cannot("have a grid for its input", "quantize it first")

  # How its axes are rearranged.

  def transposed(self, order: tuple[int, ...]) -> Leaf:
    """Returns the leaf with its axes in another order.

    Args:
      order: which axis comes at each place, as `jnp.transpose` takes it.

    Returns:
      The leaf.
    """
    return self.replace(**{name: transposed(value, order)
                           for name, value in self._laid_out("be transposed").items()})

  def stacked(self, length: int) -> Leaf:
    """Returns the leaf with a leading axis on every array, for a loop to slice.

    Args:
      length: of the loop; the first axis of the weight, which the slices are of.

    Returns:
      The leaf; what all slices share is repeated.
    """
    own = self._laid_out("be sliced by a loop")
    rest = {k: v for k, v in self.fields().items() if k not in own}
    # What is not laid out like the weight (bits, a codebook) is the same in every slice.
    shared = jax.tree.map(lambda a: jnp.broadcast_to(a, (length, *a.shape)), rest)
    return self.replace(**shared, **{name: stacked(x, length) for name, x in own.items()})

  def pieces(self, axis: int, count: int) -> dict[str, Any]:
    """Cuts an axis into pieces, for `jax.vmap` to run over.

    Args:
      axis: of the weight.
      count: how many pieces; must divide the axis.

    Returns:
      {field: the pieces, stacked in front}; other fields are the same for all pieces.
    """
    return {name: pieces(x, axis, count)
            for name, x in self._laid_out("be cut into groups").items()}

  def _laid_out(self, what: str) -> dict[str, Any]:
    if not self.laid_out:
      self._cannot(what, "it does not say which of its fields are laid out like the weight")
    return {name: getattr(self, name) for name in self.laid_out}

  def _cannot(self, what: str, remedy: str) -> NoReturn:
    raise UnsupportedError(f"a {type(self).__name__} cannot {what}; {remedy}")

  def validate(self) -> None:
    """Checks shape and dtype too; see `Node.validate`."""
    super().validate()
    jnp.dtype(self.dtype)
    if not all(n >= 0 for n in self.shape):
      raise ValueError(f"{type(self).__name__}: shape {self.shape}; must be whole numbers from 0")


def is_leaf(x: Any) -> bool:
  """Returns whether `x` is a compressed leaf (an `is_leaf=` for `jax.tree`).

  Args:
    x: anything.

  Returns:
    True or False.

  Example:
    >>> import jax.numpy as jnp
    >>> is_leaf(jnp.ones(2))
    False
  """
  return isinstance(x, Leaf)


def transposed(x: Any, order: tuple[int, ...]) -> Any:
  """Returns an array, leaf or None with its axes in another order; a scalar stays.

  Args:
    x: a field that is laid out like a weight.
    order: which axis comes at each place.

  Returns:
    The same, laid out so.
  """
  if is_leaf(x):
    return x.transposed(order)
  return x if x is None or x.ndim == 0 else jnp.transpose(x, order)


def stacked(x: Any, length: int) -> Any:
  """Returns a field that is laid out like a weight with a leading axis as long as a loop.

  Args:
    x: an array, leaf or None.
    length: of the loop.

  Returns:
    The same; what all slices share is repeated.
  """
  if is_leaf(x):
    return x.stacked(length)
  if x is None or x.ndim == 0:
    return None if x is None else jnp.broadcast_to(x, (length,))
  if 1 < x.shape[0] < length:  # one entry for each group of slices
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
  if is_leaf(x):
    return x.replace(**x.pieces(axis, count))
  if x is None:
    return None
  if x.ndim == 0 or x.shape[axis] == 1:
    return jnp.broadcast_to(x, (count, *x.shape))
  shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1:])
  return jnp.moveaxis(x.reshape(shape), axis, 0)

"""The leaf algebra: what every compressed leaf says about itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp

from compress_jax.leaves import axes
from compress_jax.leaves.nodes import Node, Payload, bits_of, is_node, node, payload_of, static

if TYPE_CHECKING:
  from typing_extensions import TypeIs

Array = jax.Array

__all__ = ["Array", "Leaf", "Node", "Payload", "UnsupportedError", "bits_of", "is_leaf", "is_node",
           "node", "payload_of", "static"]


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
      `transposed`, `stacked`, `pieces` and the like rearrange.
    in_slices: (name, dimensions) of the other fields, for a loop over a stack of weights:
      a field with as many dimensions is shared by all slices, with one more it has
      an entry for each.
  """

  parts: ClassVar[tuple[str, ...]] = ()
  laid_out: ClassVar[tuple[str, ...]] = ()
  in_slices: ClassVar[tuple[tuple[str, int], ...]] = ()

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
    """Returns which weights have not been pruned.

    Returns:
      A bool array of `shape`, true where a weight is kept; None without a mask.
    """
    self._not_of_a_leaf_inside("weight_mask")
    return None

  def weight_bits(self) -> int:
    """Returns the bits of a weight as products take it; by default the dtype's."""
    self._not_of_a_leaf_inside("weight_bits")
    return bits_of(self.dtype)

  def step_size(self) -> Array | None:
    """Returns what the weights are multiples of, laid out like them; None for no such step."""
    return None

  @property
  def ranks(self) -> tuple[int, ...]:
    """The ranks of a factorized weight; () for others."""
    return ()

  def block_shape(self) -> tuple[int, int] | None:
    """Returns rows and columns of the blocks that were pruned whole, or None."""
    self._not_of_a_leaf_inside("block_shape")
    return None

  # What transforms make of it.

  def masked(self, mask: Array) -> Leaf:
    """Returns the leaf with more of its weights pruned; masks only add up.

    Args:
      mask: bool array of `shape`, false where weights become zero.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    self._cannot("be masked", "prune before")

  def with_block(self, block: tuple[int, int]) -> Leaf:
    """Returns the leaf knowing in which blocks it was pruned; most store no blocks.

    Args:
      block: rows and columns.

    Returns:
      The leaf.
    """
    self._not_of_a_leaf_inside("with_block")
    return self

  def with_value(self, value: Array) -> Leaf:
    """Returns the leaf around other values, its masks and grids in place.

    Args:
      value: array of `shape`.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    self._cannot("have its values put back", "it must hold them as they were trained, as a "
                 "Masked, FakeQuant or FakeFloat does")

  def unrounded(self) -> Array | Leaf:
    """Returns what is under any rounding: the value that a new rounding starts from.

    Raises:
      UnsupportedError: the leaf does not say.
    """
    self._cannot("be rounded again", "quantize before")

  def refitted(self) -> Leaf:
    """Returns the leaf with its grids spanning its present weights; most have none."""
    self._not_of_a_leaf_inside("refitted")
    return self

  def scaled(self, factor: Array) -> Leaf:
    """Returns the leaf times a factor for each output.

    Args:
      factor: array, one number for each index of the last axis.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    self._cannot("be folded", "fold before quantizing")

  # How products quantize what they apply the weight to.

  @property
  def takes_input_grid(self) -> bool:
    """Whether `lift` can quantize what the weight is applied to."""
    self._not_of_a_leaf_inside("takes_input_grid")
    return False

  def input_grid(self) -> Any:
    """Returns the grid (`StaticGrid` or `Dynamic`) of what it is applied to, or None."""
    self._not_of_a_leaf_inside("input_grid")
    return None

  def with_input_grid(self, grid: Any) -> Leaf:
    """Returns the leaf with another grid for what it is applied to.

    Args:
      grid: a `StaticGrid` or `Dynamic`; None leaves the input in floating point.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    self._cannot("have a grid for its input", "quantize it first")

  # How its axes are rearranged.

  def transposed(self, order: tuple[int, ...]) -> Leaf:
    """Returns the leaf with its axes in another order.

    Args:
      order: which axis comes at each place, as `jnp.transpose` takes it.

    Returns:
      The leaf.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    return self.replace(**{name: axes.transposed(value, order)
                           for name, value in self._laid_out("be transposed").items()})

  def stacked(self, length: int) -> Leaf:
    """Returns the leaf with a leading axis on every array, for a loop to slice.

    Args:
      length: of the loop; the first axis of the weight, which the slices are of.

    Returns:
      The leaf; what all slices share is repeated.

    Raises:
      UnsupportedError: the leaf cannot do so.
    """
    fields, slices = self._laid_out("be sliced by a loop"), dict(self.in_slices)
    out = {}
    for name, x in self.fields().items():
      if name in fields:
        # A scalar serves all weights; a vector of them, one for each slice.
        scalars = not is_node(x) and x is not None and x.ndim < self.ndim
        out[name] = axes.stacked(x, length, 0 if scalars else self.ndim - 1)
      elif name in slices or x is None:
        out[name] = axes.stacked(x, length, slices.get(name, 0))
      else:
        self._cannot("be sliced by a loop", f"`in_slices` does not say what {name} is in a slice")
    return self.replace(**out)

  def taken(self, rows: Array) -> Leaf:
    """Returns the leaf of some rows, as an embedding looks them up.

    Args:
      rows: int array, (n,), indices of the first axis; what is out of range is clipped.

    Returns:
      The leaf of n rows.
    """
    fields = self._laid_out("be looked up by rows").items()
    return self.replace(**{name: axes.taken(x, rows, self.shape[0]) for name, x in fields})

  def reversed(self, dims: tuple[int, ...]) -> Leaf:
    """Returns the leaf with some axes the other way round, as transposed convolutions need it.

    Args:
      dims: the axes.

    Returns:
      The leaf.
    """
    fields = self._laid_out("be reversed").items()
    return self.replace(**{name: axes.reversed_(x, dims) for name, x in fields})

  def sliced(self, start: tuple[int, ...], stop: tuple[int, ...],
             step: tuple[int, ...]) -> Leaf:
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
    fields, taken = {}, [slice(*bounds) for bounds in zip(start, stop, step, strict=True)]
    for name, x in self._laid_out("be sliced").items():
      if not axes.sliceable(x, taken, self.shape):
        self._cannot("be sliced", "the cut axis is quantized in groups")
      fields[name] = axes.sliced(x, taken)
    return self.replace(**fields)

  def squeezed(self, dims: tuple[int, ...]) -> Leaf:
    """Returns the leaf without some axes of one index.

    Args:
      dims: the axes.

    Returns:
      The leaf.
    """
    fields = self._laid_out("lose axes").items()
    return self.replace(**{name: axes.squeezed(x, dims) for name, x in fields})

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
    return {name: axes.pieces(x, axis, count)
            for name, x in self._laid_out("be cut into groups").items()}

  def partition_specs(self, spec: tuple[Any, ...], shards: Sequence[int]) -> Leaf:
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
    # Cut nowhere, every leaf can be on every device.
    cut = max(shards, default=1) > 1
    fields = self._laid_out("be cut over devices") if cut else {}
    out = {}
    for name, x in self.fields().items():
      if name in fields and not axes.cuttable(x, shards):
        self._cannot("be cut over devices", "the cut would go through a group that shares a grid")
      out[name] = axes.partition_specs(x, spec if name in fields else (), shards)
    return self.replace(**out)

  def _laid_out(self, what: str) -> dict[str, Any]:
    if not self.laid_out:
      self._cannot(what, "it does not say which of its fields are laid out like the weight")
    return {name: getattr(self, name) for name in self.laid_out}

  def __jax_array__(self) -> NoReturn:
    """Refuses to be used as an array: what the leaf stands for is computed only on request."""
    raise TypeError(
        f"a {type(self).__name__} leaf is used as an array: call the model as "
        "apply(cj.dense(params), ...), or as cj.lift(apply)(params, ...); what an optimizer "
        "sees is cj.partition(params)[0]")

  def __array__(self, *_: Any, **__: Any) -> NoReturn:
    """Refuses numpy as `__jax_array__` refuses JAX."""
    self.__jax_array__()

  def _not_of_a_leaf_inside(self, method: str) -> None:
    """Refuses a default where the answer may be that of a leaf inside, which is not asked."""
    inside = [name for name, value in self.fields().items() if is_leaf(value)]
    if inside and not self.parts:
      self._cannot(f"answer `{method}` by default", f"the method must ask {', '.join(inside)}, or "
                   "`parts` name it (cj.Wrapper does so for one value inside)")

  def _cannot(self, what: str, remedy: str) -> NoReturn:
    raise UnsupportedError(f"a {type(self).__name__} cannot {what}; {remedy}")

  def validate(self) -> None:
    """Checks shape and dtype too; see `Node.validate`."""
    super().validate()
    jnp.dtype(self.dtype)
    if not all(n >= 0 for n in self.shape):
      raise ValueError(f"{type(self).__name__}: shape {self.shape}; must be whole numbers from 0")


def is_leaf(x: Any) -> TypeIs[Leaf]:
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

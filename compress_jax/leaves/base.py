"""The leaf algebra: what every compressed leaf says about itself."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import jax
import jax.numpy as jnp

from compress_jax.leaves.arranged import Arranged, UnsupportedError
from compress_jax.leaves.nodes import Node, Payload, bits_of, is_node, node, payload_of, static

if TYPE_CHECKING:
  from typing_extensions import TypeIs

Array = jax.Array

__all__ = ["Array", "Leaf", "Node", "Payload", "UnsupportedError", "bits_of", "is_leaf", "is_node",
           "node", "payload_of", "static"]


class Leaf(Arranged):
  """A node that stands for one dense array of a known shape and dtype.

  A subclass must define `shape`, `dtype`, `dense` and `freeze`. Everything else has
  a default that is right for any leaf, or that raises an `UnsupportedError`: then a
  transform that needs the answer refuses the leaf, and names its path.

  Attributes:
    parts: names of the fields that transforms treat as weights of their own (factors).
  """

  parts: ClassVar[tuple[str, ...]] = ()

  @property
  def dtype(self) -> jnp.dtype:
    """The dtype of the array that the leaf stands for."""
    raise NotImplementedError(f"{type(self).__name__}.dtype")

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

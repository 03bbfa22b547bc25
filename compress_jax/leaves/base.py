"""The leaf algebra: what every compressed leaf says about itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn, Self, dataclass_transform

import jax
import jax.numpy as jnp

from compress_jax.leaves import statics as static_fields

Array = jax.Array


class UnsupportedError(ValueError):
  """A leaf cannot do what it was asked for."""


@dataclasses.dataclass(frozen=True)
class Payload:
  """A named array that has to be stored.

  Attributes:
    array: the array, zeros in place.
    bits: bits that one stored element needs.
    keep: name of the sibling payload that masks this one: only elements where
      it is true are stored, the others are zero.
    structure: whether the array says where values are, not what they are; the
      papers' `nonzero` and `gzip` conventions leave it out.
    zero: the code of 0.0, broadcastable to the array.
    base: name of the sibling payload of integers that this one is counted from, laid
      over it as `grid.spread` does; None where it is counted from 0.
  """

  array: Any
  bits: int
  keep: str | None = None
  structure: bool = False
  zero: Any = 0
  base: str | None = None

  def within(self, name: str) -> Payload:
    """Returns the payload as one of a field called `name`: its siblings are renamed too.

    Args:
      name: of the field.

    Returns:
      The payload.
    """
    inside = lambda sibling: None if sibling is None else f"{name}/{sibling}"
    return dataclasses.replace(self, keep=inside(self.keep), base=inside(self.base))


def static(**kwargs: Any) -> Any:
  """Declares a dataclass field that is part of the tree's structure.

  Args:
    **kwargs: what `dataclasses.field` takes.

  Returns:
    A dataclass field, compared by value when jit looks for a compiled program. Its
    annotation says what a file may hold there: bool, int, float, str, tuples of them,
    or None beside one of these.
  """
  return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def node(cls):
  """Makes a class a frozen dataclass and a pytree node; see `Node`.

  Args:
    cls: a subclass of `Node` (`Leaf`, for a weight) with annotated fields.

  Returns:
    The same class, registered.

  Raises:
    TypeError: a static field has an annotation that no file can keep.
  """
  cls = dataclasses.dataclass(frozen=True)(cls)
  static_fields.hints(cls)
  return jax.tree_util.register_dataclass(cls)


class Node:
  """A frozen dataclass in a parameter tree whose fields are arrays, nodes or static.

  Attributes:
    trains: names of the fields that the optimizer sees.
    exact: names of the float fields that keep every bit where a file rounds floats.
    former_names: what the class was called in files of earlier versions.
    former_statics: (earlier name, present name) of static fields in such files.
  """

  trains: ClassVar[tuple[str, ...]] = ()
  exact: ClassVar[tuple[str, ...]] = ()
  former_names: ClassVar[tuple[str, ...]] = ()
  former_statics: ClassVar[tuple[tuple[str, str], ...]] = ()

  def fields(self) -> dict[str, Any]:
    """Returns the data fields (arrays, nodes or None) by name."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if not f.metadata.get("static")}

  def statics(self) -> dict[str, Any]:
    """Returns the static fields by name; each is JSON-able."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if f.metadata.get("static")}

  def replace(self, **changes: Any) -> Self:
    """Returns the node with some of its fields changed."""
    return dataclasses.replace(self, **changes)

  def nodes(self) -> Iterator[Node]:
    """Yields the node itself, then every node inside it."""
    yield self
    for value in self.fields().values():
      if isinstance(value, Node):
        yield from value.nodes()

  def payload(self) -> dict[str, Payload]:
    """Returns what has to be stored, by field name ("u/integers" when nested)."""
    out = {}
    for name, value in self.fields().items():
      if value is not None:
        out.update(payload_of(value, name))
    return out

  def validate(self) -> None:
    """Checks what must hold of the fields; subclasses add their own invariants.

    What is traced is not looked at. Files and kernels call this before they trust a node.

    Raises:
      ValueError: names the class, the field, its value and what it must be.
    """
    static_fields.check(self)
    for name, value in self.fields().items():
      if isinstance(value, Node):
        value.validate()
      elif value is not None and not hasattr(value, "dtype"):
        raise ValueError(f"{type(self).__name__}.{name}: a {type(value).__name__}; must be an "
                         "array or a leaf")


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
    """Returns the leaf with zeros wherever `mask` (bool, `shape`) is false."""
    self._cannot("be masked", "prune before")

  def with_block(self, block: tuple[int, int]) -> Leaf:
    """Returns the leaf knowing in which blocks it was pruned; most store no blocks."""
    return self

  def with_value(self, value: Array) -> Leaf:
    """Returns the leaf around other values, its masks and grids in place."""
    self._cannot("have its values put back", "it must hold them as they were trained, as a "
                 "Masked, FakeQuant or FakeFloat does")

  def unrounded(self) -> Array | Leaf:
    """Returns what is under any rounding: the value that a new rounding starts from."""
    self._cannot("be rounded again", "quantize before")

  def refitted(self) -> Leaf:
    """Returns the leaf with its grids spanning its present weights; most have none."""
    return self

  def scaled(self, factor: Array) -> Leaf:
    """Returns the leaf times a factor for each index of the last axis."""
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
    """Returns the leaf with another grid for what it is applied to, or None."""
    self._cannot("have a grid for its input", "quantize it first")

  # How its axes are rearranged.

  def transposed(self, order: tuple[int, ...]) -> Leaf:
    """Returns the leaf with its axes in another order, as `jnp.transpose` takes it."""
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

  Example:
    >>> import jax.numpy as jnp
    >>> is_leaf(jnp.ones(2))
    False
  """
  return isinstance(x, Leaf)


def is_node(x: Any) -> bool:
  """Returns whether `x` is a leaf, or a node inside leaves (a grid, for instance)."""
  return isinstance(x, Node)


def bits_of(dtype: Any) -> int:
  """Returns the bits of an element; int4 and the like take less than their byte."""
  dtype = jnp.dtype(dtype)
  if jnp.issubdtype(dtype, jnp.integer):
    return jnp.iinfo(dtype).bits
  return dtype.itemsize * 8


# The same questions to an array, which is a weight without any compression, or a leaf.


def dense_of(x: Array | Leaf) -> Array:
  """Returns the array that `x`, an array or a leaf, stands for."""
  return x.dense() if is_leaf(x) else x


def freeze_of(x: Any) -> Any:
  """Returns the deployed form of `x`; an array is its own."""
  return x.freeze() if is_leaf(x) else x


def mask_of(x: Array | Leaf) -> Array | None:
  """Returns which weights of an array or leaf have not been pruned.

  Args:
    x: an array or leaf.

  Returns:
    A bool array of its shape, true where a weight is kept; None where it has no mask.

  Example:
    >>> import jax.numpy as jnp
    >>> mask_of(jnp.ones(2)) is None
    True
  """
  return x.weight_mask() if is_leaf(x) else None


def weight_bits_of(x: Array | Leaf) -> int:
  """Returns the bits of a weight as products take it."""
  return x.weight_bits() if is_leaf(x) else bits_of(x.dtype)


def input_grid_of(x: Any) -> Any:
  """Returns the grid of what a weight is applied to, or None."""
  return x.input_grid() if is_leaf(x) else None


def unrounded_of(x: Array | Leaf) -> Array | Leaf:
  """Returns what is under any rounding of an array or leaf."""
  return x.unrounded() if is_leaf(x) else x


def with_value(x: Array | Leaf, value: Array) -> Array | Leaf:
  """Returns an array or leaf around other values; of an array these are all there is."""
  return x.with_value(value) if is_leaf(x) else value


def scaled(x: Array | Leaf, factor: Array) -> Array | Leaf:
  """Returns an array or leaf times a factor for each index of the last axis."""
  return x.scaled(factor) if is_leaf(x) else x * factor


def parts_of(x: Array | Leaf) -> dict[str, Array | Leaf]:
  """Returns what transforms treat as weights: a leaf's factors by name, or itself as ""."""
  if is_leaf(x) and x.parts:
    return {name: getattr(x, name) for name in x.parts}
  return {"": x}


def payload_of(x: Any, name: str) -> dict[str, Payload]:
  """Returns the payload of an array or node under `name`."""
  if not is_node(x):
    return {name: Payload(x, bits_of(x.dtype))}
  return {f"{name}/{key}": payload.within(name) for key, payload in x.payload().items()}


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
  """Returns a field that is laid out like a weight with a leading axis as long as a loop."""
  if is_leaf(x):
    return x.stacked(length)
  if x is None or x.ndim == 0:
    return None if x is None else jnp.broadcast_to(x, (length,))
  if 1 < x.shape[0] < length:  # one entry for each group of slices
    return jnp.repeat(x, length // x.shape[0], 0)
  return jnp.broadcast_to(x, (length, *x.shape[1:]))


def pieces(x: Any, axis: int, count: int) -> Any:
  """Cuts an axis of a field into pieces, stacked in front; an axis of 1 goes into each."""
  if is_leaf(x):
    return x.replace(**x.pieces(axis, count))
  if x is None:
    return None
  if x.ndim == 0 or x.shape[axis] == 1:
    return jnp.broadcast_to(x, (count, *x.shape))
  shape = (*x.shape[:axis], count, x.shape[axis] // count, *x.shape[axis + 1:])
  return jnp.moveaxis(x.reshape(shape), axis, 0)

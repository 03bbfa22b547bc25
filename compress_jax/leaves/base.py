"""The leaf algebra: what every compressed leaf says about itself."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, dataclass_transform

import jax
import jax.numpy as jnp

Array = jax.Array


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
  """

  array: Any
  bits: int
  keep: str | None = None
  structure: bool = False
  zero: Any = 0


def static(**kwargs: Any) -> Any:
  """Declares a dataclass field that is part of the tree's structure.

  Args:
    **kwargs: what `dataclasses.field` takes.

  Returns:
    A dataclass field, compared by value when jit looks for a compiled program.
  """
  return dataclasses.field(metadata={"static": True}, **kwargs)


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def node(cls):
  """Makes a class a frozen dataclass and a pytree node; see `Node`.

  Args:
    cls: a subclass of `Node` with annotated fields.

  Returns:
    The same class, registered.
  """
  cls = dataclasses.dataclass(frozen=True)(cls)
  return jax.tree_util.register_dataclass(cls)


class Node:
  """A frozen dataclass in a parameter tree whose fields are arrays, nodes or static."""

  def fields(self) -> dict[str, Any]:
    """Returns the data fields (arrays, nodes or None) by name."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if not f.metadata.get("static")}

  def statics(self) -> dict[str, Any]:
    """Returns the static fields by name; each is JSON-able."""
    return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)
            if f.metadata.get("static")}

  def payload(self) -> dict[str, Payload]:
    """Returns what has to be stored, by field name ("u/integers" when nested)."""
    out = {}
    for name, value in self.fields().items():
      if value is not None:
        out.update(payload_of(value, name))
    return out


class Leaf(Node):
  """A node that stands for one dense array of a known shape and dtype.

  Attributes:
    trains: names of the fields that the optimizer sees.
    parts: names of the fields that transforms treat as matrices of their own.
  """

  trains: ClassVar[tuple[str, ...]] = ()
  parts: ClassVar[tuple[str, ...]] = ()

  @property
  def shape(self) -> tuple[int, ...]:
    """The shape of the array that the leaf stands for."""
    raise NotImplementedError(type(self).__name__)

  @property
  def dtype(self) -> jnp.dtype:
    """The dtype of the array that the leaf stands for."""
    raise NotImplementedError(type(self).__name__)

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
    raise NotImplementedError(type(self).__name__)

  def freeze(self) -> Leaf:
    """Returns the deployed leaf; its `dense()` has the same bits."""
    raise NotImplementedError(type(self).__name__)

  def masked(self, mask: Array) -> Leaf:
    """Returns the leaf with zeros wherever `mask` (bool, `shape`) is false."""
    raise NotImplementedError(type(self).__name__)


def is_leaf(x: Any) -> bool:
  """Returns whether `x` is a compressed leaf (an `is_leaf=` for `jax.tree`).

  Example:
    >>> import jax.numpy as jnp
    >>> is_leaf(jnp.ones(2))
    False
  """
  return isinstance(x, Leaf)


def dense_of(x: Array | Leaf) -> Array:
  """Returns the array that `x`, an array or a leaf, stands for."""
  return x.dense() if is_leaf(x) else x


def freeze_of(x: Any) -> Any:
  """Returns the deployed form of `x`; an array is its own."""
  return x.freeze() if is_leaf(x) else x


def bits_of(dtype: Any) -> int:
  """Returns the bits of an element; int4 and the like take less than their byte."""
  dtype = jnp.dtype(dtype)
  if jnp.issubdtype(dtype, jnp.integer):
    return jnp.iinfo(dtype).bits
  return dtype.itemsize * 8


def payload_of(x: Any, name: str) -> dict[str, Payload]:
  """Returns the payload of an array or node under `name`."""
  if not isinstance(x, Node):
    return {name: Payload(x, bits_of(x.dtype))}
  inner = x.payload()
  return {f"{name}/{key}": dataclasses.replace(
      p, keep=None if p.keep is None else f"{name}/{p.keep}")
          for key, p in inner.items()}

"""Nodes of parameter trees: frozen dataclasses of arrays, other nodes and static fields."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from compress_jax.leaves import statics as static_fields

if TYPE_CHECKING:
  # Type checkers know this module where it is not installed; from Python 3.13 `typing` has it.
  from typing_extensions import TypeIs


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


def _is_default(value: Any, default: Any) -> bool:
  """Returns whether a field's value goes without saying."""
  # Arrays are never compared: they may be traced.
  return value is None or (isinstance(value, bool | int | float | str) and value == default)


def _text(x: Any) -> str:
  """Returns one line about a field: the value of a number, the dtype and shape of an array."""
  if not hasattr(x, "shape") or not hasattr(x, "dtype") or isinstance(x, Node):
    return repr(x)
  if x.shape == () and isinstance(x, np.generic | np.ndarray | jax.Array) and _is_known(x):
    return str(x)
  return f"{x.dtype}[{','.join(map(str, x.shape))}]"


def _is_known(x: Any) -> bool:
  """Returns whether an array has its elements here and now."""
  return not isinstance(x, Tracer) and getattr(x, "is_fully_addressable", True)


# In an annotation, as text or evaluated.
_NONE = re.compile(r"\b(None|NoneType|Optional)\b")

# Counts node classes: of two that are defined under one name, files mean the later one.
_ORDER = itertools.count()

_NodeClass = TypeVar("_NodeClass", bound="Node")


@dataclass_transform(frozen_default=True, field_specifiers=(static,))
def node(cls: type[_NodeClass]) -> type[_NodeClass]:
  """Makes a class a frozen dataclass and a pytree node; see `Node`.

  Args:
    cls: a subclass of `Node` (`Leaf`, for a weight) with annotated fields.

  Returns:
    The same class, registered.

  Raises:
    TypeError: a static field has an annotation that no file can keep.
  """
  cls = dataclasses.dataclass(frozen=True, repr=False)(cls)
  static_fields.hints(cls)
  cls.order = next(_ORDER)
  return jax.tree_util.register_dataclass(cls)


class Node:
  """A frozen dataclass in a parameter tree whose fields are arrays, nodes or static.

  Attributes:
    trains: names of the fields that the optimizer sees.
    exact: names of the float fields that keep every bit where a file rounds floats.
    former_names: what the class was called in files of earlier versions.
    former_statics: (earlier name, present name) of static fields in such files.
    order: how many node classes were made before.
  """

  trains: ClassVar[tuple[str, ...]] = ()
  exact: ClassVar[tuple[str, ...]] = ()
  former_names: ClassVar[tuple[str, ...]] = ()
  former_statics: ClassVar[tuple[tuple[str, str], ...]] = ()
  order: ClassVar[int]
  # `node` makes every subclass a dataclass, which a type checker cannot know of this class.
  __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

  def __repr__(self) -> str:
    """Returns one line: of arrays the dtype and shape; what has its default value is left out."""
    texts = [f"{f.name}={_text(getattr(self, f.name))}" for f in dataclasses.fields(self)
             if not _is_default(getattr(self, f.name), f.default)]
    return f"{type(self).__name__}({', '.join(texts)})"

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

  def is_half(self) -> bool:
    """Tells whether an array is missing that must be there.

    `partition` takes nodes apart into two such halves, and an optimizer's state consists of
    them. A field may be None by itself where its annotation says so.
    """
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, Node) and value.is_half():
        return True
      may_be_none = field.metadata.get("static") or _NONE.search(str(field.type))
      if value is None and not may_be_none:
        return True
    return False

  def payload(self) -> dict[str, Payload]:
    """Returns what has to be stored, by field name ("u/integers" when nested)."""
    out = {}
    for name, value in self.fields().items():
      if value is not None:
        out.update(payload_of(value, name))
    return out

  def stacked(self, length: int) -> Self:
    """Returns the node with a leading axis on every array, for a loop to slice.

    Args:
      length: of the loop. Arrays that are scalars in a single node are repeated; those
        that have a leading axis have an entry for each slice already.

    Returns:
      The node.
    """
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (length, *a.shape[1:])), self)

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


def is_node(x: Any) -> TypeIs[Node]:
  """Returns whether `x` is a leaf, or a node inside leaves (a grid, for instance).

  Args:
    x: anything.

  Returns:
    True or False.
  """
  return isinstance(x, Node)


def bits_of(dtype: Any) -> int:
  """Returns the bits of an element; int4, float4 and the like take less than their byte.

  Args:
    dtype: a dtype or its name.

  Returns:
    Bits.
  """
  dtype = jnp.dtype(dtype)
  if jnp.issubdtype(dtype, jnp.integer):
    return jnp.iinfo(dtype).bits
  if jnp.issubdtype(dtype, jnp.floating):
    return jnp.finfo(dtype).bits
  return dtype.itemsize * 8


def payload_of(x: Any, name: str) -> dict[str, Payload]:
  """Returns the payload of an array or node.

  Args:
    x: an array or node.
    name: of the field that holds it.

  Returns:
    {name: Payload}; of a node one for each array in it, as "name/field".
  """
  if not is_node(x):
    return {name: Payload(x, bits_of(x.dtype))}
  return {f"{name}/{key}": payload.within(name) for key, payload in x.payload().items()}

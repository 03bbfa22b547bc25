"""What rules are written against: references to leaves, the table, `NoRule`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from compress_jax.leaves import Leaf, dense_of, is_leaf
from compress_jax.leaves.base import Array

Rule = Callable[..., list[Any]]

PRODUCTS = (primitives.dot_general_p, primitives.conv_general_dilated_p)

# (primitive, leaf type or None for any) -> rule(interpreter, equation, *inputs)
RULES: dict[tuple[Any, type[Leaf] | None], Rule] = {}


class NoRule(NotImplementedError):
  """No rule says how a primitive runs on a compressed leaf.

  Attributes:
    primitive: the primitive's name.
    path: the leaf's path in the arguments.
  """

  def __init__(self, primitive: str, path: str, why: str):
    self.primitive, self.path = primitive, path
    super().__init__(f"no rule for {primitive} on {path}: {why}; "
                     "lift(fn, densify=True) runs it on the dense array instead")


@dataclasses.dataclass(frozen=True)
class Captured:
  """One use of a weight.

  Attributes:
    input: what it was applied to.
    output: the result, before any bias.
    terms: products that each element of the output sums; 0 where the factors of
      the weight were applied, which have records of their own.
  """

  input: Array
  output: Array
  terms: int = dataclasses.field(default=0, metadata={"static": True})


jax.tree_util.register_dataclass(Captured)


@dataclasses.dataclass(frozen=True)
class Ref:
  """A weight on its way through the program.

  Attributes:
    leaf: the compressed leaf, or an array that is being watched.
    path: its place in the arguments.
    dtype: what the program has converted it to.
  """

  leaf: Leaf | Array
  path: str = dataclasses.field(metadata={"static": True})
  dtype: Any = dataclasses.field(metadata={"static": True})

  def whole(self) -> Any:
    """Returns the leaf as it is (a leaf has no other dtype), or the array as converted."""
    return self.leaf if self.compressed else self.dense()

  @property
  def compressed(self) -> bool:
    """Whether it is more than a watched array."""
    return is_leaf(self.leaf)

  def dense(self) -> Array:
    """Returns the array that the program would have seen."""
    return dense_of(self.leaf).astype(self.dtype)

  def kind(self) -> type | None:
    """Returns the key of the rules for it."""
    return type(self.leaf) if self.compressed else jax.Array


jax.tree_util.register_dataclass(Ref)


def register(primitive: Any, leaf: type | None) -> Callable[[Rule], Rule]:
  """Registers how a primitive runs on a leaf.

  Args:
    primitive: a JAX primitive (`jax.extend.core.primitives`).
    leaf: the leaf type; None serves every leaf; `jax.Array` a watched array.

  Returns:
    A decorator for rule(interpreter, equation, *inputs) -> outputs, where inputs
    and outputs are arrays or `Ref`s.

  Example:
    >>> import jax.extend.core as jec
    >>> import compress_jax as cj
    >>> @register(jec.primitives.neg_p, cj.LowRank)
    ... def negate(interpreter, equation, x):
    ...   return [Ref(cj.LowRank(-x.leaf.u, x.leaf.v), x.path, x.dtype)]
    >>> _ = RULES.pop((jec.primitives.neg_p, cj.LowRank))
  """
  def add(rule: Rule) -> Rule:
    RULES[primitive, leaf] = rule
    return rule
  return add


def cast(ref: Ref, dtype: Any) -> Ref:
  """Returns the reference as the program sees it after a conversion."""
  return dataclasses.replace(ref, dtype=jnp.dtype(dtype))


def bind(equation: Any, inputs: list[Any]) -> list[Any]:
  """Returns the outputs of an equation on plain arrays."""
  params = equation.primitive.get_bind_params(equation.params)
  out = equation.primitive.bind(*inputs, **params)
  return list(out) if equation.primitive.multiple_results else [out]

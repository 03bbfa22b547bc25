"""What rules are written against: references to leaves, the tables of rules, `NoRule`."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import primitives

from compress_jax.leaves import Leaf, UnsupportedError, dense_of, is_leaf
from compress_jax.leaves.base import Array

Rule = Callable[..., list[Any]]
ProductRule = Callable[..., Array]

# The primitives that multiply by a weight and sum.
PRODUCTS = (primitives.dot_general_p, primitives.conv_general_dilated_p)

# (primitive or its name, leaf type or None for any) -> rule(interpreter, equation, *inputs)
RULES: dict[tuple[Any, type | None], Rule] = {}


@dataclasses.dataclass(frozen=True)
class Product:
  """How products with a type of leaf run.

  Attributes:
    rule: (interpreter, op, x, w) -> array; see `register_product`.
    by_parts: whether it multiplies by the leaf's parts, one after the other, through
      `interpreter.product`: then the products with those are what is counted.
  """

  rule: ProductRule
  by_parts: bool


PRODUCT_RULES: dict[type, Product] = {}


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


@contextlib.contextmanager
def as_no_rule(primitive: str, path: str) -> Iterator[None]:
  """Raises NoRule where a leaf says that it cannot do what is asked of it.

  Args:
    primitive: the primitive's name.
    path: of the leaf.

  Raises:
    NoRule: `UnsupportedError` was raised inside; it says the same.
  """
  try:
    yield
  except UnsupportedError as error:
    raise NoRule(primitive, path, str(error)) from None


@dataclasses.dataclass(frozen=True)
class Captured:
  """One use of a weight.

  Attributes:
    input: what it was applied to.
    output: the result, before any bias.
    terms: products that each element of the output sums, on average where a transposed
      convolution's differ; 0 where the factors of the weight were applied, which have records
      of their own.
    slices: how many axes of `input` and `output`, in front, are axes of the weight: of a stack,
      of which `scan` applied one slice after the other.
  """

  input: Array
  output: Array
  terms: float = dataclasses.field(default=0, metadata={"static": True})
  slices: int = dataclasses.field(default=0, metadata={"static": True})


jax.tree_util.register_dataclass(Captured)


@dataclasses.dataclass(frozen=True)
class Ref:
  """A weight on its way through the program.

  Attributes:
    leaf: the compressed leaf, or an array that is being watched. Which type of leaf a rule
      meets is known from what it is registered for.
    path: its place in the arguments.
    dtype: what the program has converted it to.
    narrowed: the dtype that rounded it on the way to a wider one, if any.
    watched: whether a leaf of this program's own stands for nothing but watched arrays.
    moved: whether the program has laid it out anew, so that its axes are no longer the
      argument's (or, inside a loop, the slice's).
  """

  leaf: Any
  path: str = dataclasses.field(metadata={"static": True})
  dtype: Any = dataclasses.field(metadata={"static": True})
  narrowed: Any = dataclasses.field(default=None, metadata={"static": True})
  watched: bool = dataclasses.field(default=False, metadata={"static": True})
  moved: bool = dataclasses.field(default=False, metadata={"static": True})

  def whole(self) -> Any:
    """Returns the leaf as it is (a leaf has no other dtype), or the array as converted."""
    return self.leaf if self.compressed else self.dense()

  @property
  def compressed(self) -> bool:
    """Whether it is more than a watched array, or several that are joined."""
    return is_leaf(self.leaf) and not self.watched

  def dense(self) -> Array:
    """Returns the array that the program would have seen."""
    x = dense_of(self.leaf)
    return (x if self.narrowed is None else x.astype(self.narrowed)).astype(self.dtype)

  def part(self, name: str) -> Ref:
    """Returns the reference to a part of the leaf, for `interpreter.product`.

    Args:
      name: of the part's field; must be one of the leaf's `parts`.

    Returns:
      The reference, whose path ends in the name.

    Raises:
      ValueError: the leaf does not name it among its parts.
    """
    if name not in self.leaf.parts:
      raise ValueError(f"{self.path}: {name!r} must be one of the leaf's parts {self.leaf.parts}")
    return Ref(getattr(self.leaf, name), f"{self.path}/{name}", self.dtype, self.narrowed)

  def kind(self) -> type:
    """Returns the key of the rules for it: the leaf's type, or `jax.Array`."""
    return type(self.leaf) if is_leaf(self.leaf) else jax.Array


jax.tree_util.register_dataclass(Ref)


def register(primitive: Any, leaf: type | None = None) -> Callable[[Rule], Rule]:
  """Registers how a primitive runs on a leaf.

  Args:
    primitive: a JAX primitive (`jax.extend.core.primitives`), or the name of one that JAX
      does not export.
    leaf: the leaf type; None serves every leaf and watched arrays; `jax.Array` only these.

  Returns:
    A decorator for `rule(interpreter, equation, *inputs) -> outputs`, where each input
    and output is an array or a `Ref`.

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


def register_product(leaf: type[Leaf], *,
                     by_parts: bool = False) -> Callable[[ProductRule], ProductRule]:
  """Registers how matrix products and convolutions with a type of leaf run under `lift`.

  The rule serves every `dot_general` and `conv_general_dilated`, on either side and
  inside custom derivatives; what it cannot run it refuses by raising `NoRule`.
  `capture` records its results, `metrics.operations` counts them, and the exports
  that trace `lift` contain them.

  Args:
    leaf: the leaf type.
    by_parts: whether the rule multiplies by the leaf's parts, one after the other, as
      `interpreter.product(op, x, w.part(name))`. Then the products with the parts are
      what is counted; the whole is recorded with no terms of its own.

  Returns:
    A decorator for rule(interpreter, op, x, w) -> array. `op` is the
    `lift.contraction.Contraction`: `op(x, array)` is the result for an array in the
    weight's place; `x` is the other operand; `w` is the `Ref` of the weight. The
    result is converted to `op.dtype`.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> @cj.node
    ... class Doubled(cj.Leaf):
    ...   half: object
    ...   shape = property(lambda self: self.half.shape)
    ...   dtype = property(lambda self: self.half.dtype)
    ...   def dense(self): return 2 * self.half
    ...   def freeze(self): return self
    >>> @cj.register_product(Doubled)
    ... def twice(interpreter, op, x, w):
    ...   return 2 * op(x, w.leaf.half)
    >>> cj.lift(lambda p, x: x @ p["w"])({"w": Doubled(jnp.eye(2))}, jnp.ones(2)).tolist()
    [2.0, 2.0]
  """
  def add(rule: ProductRule) -> ProductRule:
    PRODUCT_RULES[leaf] = Product(rule, by_parts)
    return rule
  return add


def product_of(op: Any, w: Ref) -> Product:
  """Returns how products with a weight run: by its leaf's own rule, or that of a base class.

  Args:
    op: the contraction, for the error.
    w: the weight.

  Returns:
    The rule.

  Raises:
    NoRule: none is registered.
  """
  for cls in w.kind().__mro__:
    if cls in PRODUCT_RULES:
      return PRODUCT_RULES[cls]
  why = f"{type(w.leaf).__name__} leaf, none is registered"
  raise NoRule(op.primitive.name, w.path, why)


def dense_array(x: Any) -> Array:
  """Returns the array that the program would have: of a compressed weight, the dense one.

  Args:
    x: array or `Ref`.

  Returns:
    The array.
  """
  return x.dense() if isinstance(x, Ref) else x


def cast(ref: Ref, dtype: Any) -> Ref:
  """Returns the reference as the program sees it after a conversion.

  Args:
    ref: the reference.
    dtype: what it is converted to.

  Returns:
    The reference; its leaf is not touched.
  """
  dtype = jnp.dtype(dtype)
  widened = dtype.itemsize > jnp.dtype(ref.dtype).itemsize
  narrowed = jnp.dtype(ref.dtype) if widened else ref.narrowed
  return dataclasses.replace(ref, dtype=dtype, narrowed=narrowed)


def bind(equation: Any, inputs: list[Any]) -> list[Any]:
  """Returns the outputs of an equation on plain arrays.

  Args:
    equation: of a jaxpr.
    inputs: arrays.

  Returns:
    Arrays.
  """
  params = equation.primitive.get_bind_params(equation.params)
  out = equation.primitive.bind(*inputs, **params)
  return list(out) if equation.primitive.multiple_results else [out]

"""The interpreter of `lift`: runs a program whose inputs may be compressed leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Literal

from compress_jax.leaves import input_grid_of
from compress_jax.lift.contraction import Contraction
from compress_jax.lift.registry import PRODUCTS, RULES, Captured, NoRule, Ref, bind, product_of


class Interpreter:
  """Evaluates a jaxpr whose inputs may be references to leaves.

  Attributes:
    densify: whether a primitive without a rule gets the dense array.
    watching: whether products are recorded.
    exact: whether fake-quantized sums are the integers'; see `lift`.
    records: {path: [Captured]} so far, of the program at this level.
    unseen: paths of weights with a use that no record tells of, at any level.
  """

  def __init__(self, densify: bool, watching: bool = False, exact: bool = True):
    self.densify, self.watching, self.exact = densify, watching, exact
    self.records: dict[str, list[Captured]] = {}
    self.unseen: set[str] = set()

  def run(self, jaxpr: Any, consts: Any, inputs: Any) -> list[Any]:
    """Evaluates a program.

    Args:
      jaxpr: an open jaxpr.
      consts: its constants.
      inputs: arrays or `Ref`s.

    Returns:
      Arrays or `Ref`s, one for each output.
    """
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *inputs], strict=True))

    def read(variable: Any) -> Any:
      return variable.val if isinstance(variable, Literal) else values[variable]

    for equation in jaxpr.eqns:
      outs = self.step(equation, [read(v) for v in equation.invars])
      values.update(zip(equation.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]

  def step(self, equation: Any, inputs: list[Any]) -> list[Any]:
    """Returns the outputs of one equation.

    Args:
      equation: of a jaxpr.
      inputs: arrays or `Ref`s.

    Returns:
      Arrays or `Ref`s.

    Raises:
      NoRule: nothing says how it runs on a leaf, and `densify` is off.
    """
    inputs = self._one_weight(equation, inputs)
    refs = [x for x in inputs if isinstance(x, Ref)]
    if not refs:
      return bind(equation, inputs)
    rule = _rule_for(equation.primitive, refs)
    if rule is None:
      return self._on_arrays(equation, inputs)
    try:
      return list(rule(self, equation, *inputs))
    except NoRule:
      # A watched array is never refused: it only goes unrecorded.
      if not self.densify and any(x.compressed for x in refs):
        raise
      return self._on_arrays(equation, inputs)

  def _one_weight(self, equation: Any, inputs: list[Any]) -> list[Any]:
    """Makes a watched array beside another weight plain: it is the other operand."""
    if equation.primitive not in PRODUCTS or not all(isinstance(x, Ref) for x in inputs):
      return inputs
    left, right = inputs
    if not left.compressed:
      return [left.dense(), right]  # as in `latents @ w`
    return [left, right if right.compressed else right.dense()]

  def _on_arrays(self, equation: Any, inputs: list[Any]) -> list[Any]:
    why = "none is registered"
    if equation.primitive not in PRODUCTS:
      why += ("; if no product multiplies by it, it should not have been compressed: "
              "where=cj.used_in_products(fn, params, x) leaves it out")
    return bind(equation, [self.plain(x, equation.primitive.name, why) for x in inputs])

  def plain(self, x: Any, primitive: str, why: str) -> Any:
    """Returns `x` as an array where that is allowed.

    Args:
      x: array or `Ref`.
      primitive: whose input it is, for the error.
      why: what keeps it from staying a leaf, for the error.

    Returns:
      The array.

    Raises:
      NoRule: x is compressed and `densify` is off.
    """
    if not isinstance(x, Ref):
      return x
    if x.compressed and not self.densify:
      kind = f"{type(x.leaf).__name__} leaf"
      raise NoRule(primitive, x.path, f"{kind}, {why}")
    return x.dense()

  def product(self, op: Contraction, x: Any, w: Ref) -> Any:
    """Applies a weight by the rule of its leaf, and shows the result to `capture`.

    Args:
      op: the contraction.
      x: the other operand.
      w: the weight.

    Returns:
      The result, of dtype `op.dtype`.

    Raises:
      NoRule: there is no rule for the leaf, or it cannot run this contraction.
    """
    terms = op.terms_of_data(w.leaf.shape)
    try:
      found = product_of(op, w)
      out = found.rule(self, op, _promoted(op, x, w), w)
      if found.by_parts:
        terms = 0  # the products with parts have records of their own, which say what was summed
    except NoRule:
      if w.compressed and not self.densify:
        raise
      if w.watched:
        terms = 0  # arrays that are joined in a way that tells nothing of each
      out = op(_on_input_grid(x, w.leaf), w.dense())
    out = out.astype(op.dtype)
    self.record(w.path, x, out, terms)
    return out

  def record(self, path: str, x: Any, out: Any, terms: float) -> None:
    """Notes one use of a weight, where products are watched; see `Captured`.

    Args:
      path: of the weight.
      x: what it was applied to.
      out: the result.
      terms: see `Captured`.
    """
    if self.watching:
      self.records.setdefault(path, []).append(Captured(x, out, terms))

  def sub(self, jaxpr: Any, consts: Any) -> Callable[..., tuple[list[Any], Any]]:
    """Makes a function of a program inside, for JAX's loops and branches to run.

    Args:
      jaxpr: an open jaxpr.
      consts: its constants.

    Returns:
      A function of the jaxpr's inputs that returns (outputs as arrays, records).
    """
    def fn(*inputs: Any) -> tuple[list[Any], Any]:
      inner = type(self)(self.densify, self.watching, self.exact)
      inner.unseen = self.unseen
      outs = inner.run(jaxpr, consts, inputs)
      # JAX's own loops and branches carry arrays only.
      return [inner.plain(x, "return", "it is returned") for x in outs], inner.records
    return fn

  def absorb(self, outs: list[Any], records: dict[str, list[Captured]]) -> list[Any]:
    """Takes over what a function from `sub` returned.

    Args:
      outs: the outputs.
      records: the records.

    Returns:
      The outputs.
    """
    for path, uses in records.items():
      self.records.setdefault(path, []).extend(uses)
    return list(outs)


def _rule_for(primitive: Any, refs: list[Ref]) -> Any:
  """Returns the rule of the first weight's type that has one, or that of any type, or None."""
  for key in (primitive, primitive.name):
    for ref in refs:
      for kind in ref.kind().__mro__:
        if (key, kind) in RULES:
          return RULES[key, kind]
    if (key, None) in RULES:
      return RULES[key, None]
  return None


def _promoted(op: Contraction, x: Any, w: Ref) -> Any:
  """Returns the other operand in a dtype that holds both, so that rules see a single one.

  A `dot_general` takes operands of different dtypes: `x @ w` of pixels leaves them integers.
  """
  if jnp.issubdtype(x.dtype, jnp.complexfloating):
    # No rule knows an imaginary part; a plain weight is multiplied by it as ever.
    if w.compressed:
      raise NoRule(op.primitive.name, w.path, f"an operand of {x.dtype}")
    return x
  if x.dtype == w.dtype:
    return x
  if op.outer is not None:
    raise NoRule(op.primitive.name, w.path, f"operands of {x.dtype} and {w.dtype} with a "
                 "derivative of their own; convert them to one dtype first")
  # Whole numbers are not promoted to the weight's dtype, which may be too narrow for them.
  least = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
  return x.astype(jnp.promote_types(least, w.dtype))


def _on_input_grid(x: Any, weight: Any) -> Any:
  """Returns the other operand of a product rounded as the weight's grid says, if it has one."""
  grid = input_grid_of(weight)
  if grid is None:
    return x
  return grid.for_input(x).fake_quantize(x).astype(x.dtype)

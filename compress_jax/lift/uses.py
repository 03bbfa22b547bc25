"""Which parameters a model's products use as weights, asked of its program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import Literal, primitives

from compress_jax import tree
from compress_jax.lift.registry import PRODUCTS
from compress_jax.lift.rules.control_flow import open_jaxpr, scan_sizes
from compress_jax.lift.tracing import is_dynamic, program_of

# The paths of the parameters that a value is computed from; None where data are among it.
Sources = frozenset[str] | None
_NONE: Sources = frozenset()
_PRODUCTS = (*(primitive.name for primitive in PRODUCTS), "ragged_dot_general")


def used_in_products(fn: Callable[..., Any], params: Any, *args: Any) -> Callable[[str], bool]:
  """Asks a model which of its parameters products use as weights; nothing is computed.

  For `where=` of a transform, where the default, which goes by names and dimensions, takes
  what is not a weight or misses what is one. What a weight is computed from counts too, but for
  vectors (the gains of weight normalization, say): `x @ (w + a @ b)` uses all three. A table that
  data look up (embeddings, experts that are gathered) is none, unless something multiplies by it.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree.
    *args: as for `fn`: arrays, or a `jax.ShapeDtypeStruct` for each.

  Returns:
    A predicate on paths.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = {"shift": jnp.ones((1, 2)), "w": jnp.eye(2)}
    >>> apply = lambda params, x: x @ params["w"] + params["shift"]
    >>> where = cj.used_in_products(apply, params, jnp.ones((1, 2)))
    >>> where("w"), where("shift")
    (True, False)
  """
  arrays, rebuild = tree.arrays_of((params, args))
  finder = _Finder()

  def run(given: list[Any]) -> list[Any]:
    params, args = rebuild(given)
    jaxpr = program_of(fn, (params, *args), {})[0].jaxpr
    weights = [(path, x) for path, x in tree.entries(params)[0] if is_dynamic(x)]
    finder.dimensions = {path: x.ndim for path, x in weights}
    sources: list[Sources] = [frozenset([path]) for path, _ in weights]
    finder.outputs(jaxpr, sources + [None] * (len(jaxpr.invars) - len(weights)))
    return []

  jax.eval_shape(run, arrays)
  return frozenset(finder.found).__contains__


class _Finder:
  """Follows through a program what is computed from parameters alone.

  Attributes:
    found: paths of what products use so far.
    dimensions: {path: how many a parameter has}.
  """

  def __init__(self) -> None:
    self.found: set[str] = set()
    self.dimensions: Mapping[str, int] = {}

  def outputs(self, jaxpr: Any, inputs: Sequence[Sources]) -> list[Sources]:
    """Returns what a program's outputs are computed from.

    Args:
      jaxpr: open.
      inputs: what its inputs are computed from.
    """
    known = dict(zip(jaxpr.invars, inputs, strict=True))

    def sources(variable: Any) -> Sources:
      # Constants are computed from nothing.
      return _NONE if isinstance(variable, Literal) else known.get(variable, _NONE)

    for equation in jaxpr.eqns:
      outs = self._step(equation, [sources(v) for v in equation.invars])
      known.update(zip(equation.outvars, outs, strict=True))
    return [sources(v) for v in jaxpr.outvars]

  def _step(self, equation: Any, inputs: list[Sources]) -> list[Sources]:
    if equation.primitive.name in _PRODUCTS:
      for sources in inputs:
        self._use(sources)
    if equation.primitive is primitives.scan_p:
      return self._scan(equation.params, inputs)
    if equation.primitive is primitives.while_p:
      return self._while(equation.params, inputs)
    if equation.primitive is primitives.cond_p:
      branches = [self.outputs(_open(b), inputs[1:]) for b in equation.params["branches"]]
      return [_all_of([inputs[0], *outs]) for outs in zip(*branches, strict=True)]
    for value in equation.params.values():
      inner = _open(value)
      # jit, checkpoint, custom derivatives, shard_map: one program, of the same inputs.
      if hasattr(inner, "eqns") and len(inner.invars) == len(inputs):
        return self.outputs(inner, inputs)
    return [_all_of(inputs)] * len(equation.outvars)

  def _use(self, sources: Sources) -> None:
    for path in sources or ():
      if len(sources or ()) == 1 or self.dimensions[path] > 1:
        self.found.add(path)

  def _scan(self, params: Any, inputs: list[Sources]) -> list[Sources]:
    consts, carried = scan_sizes(params)
    head, carry, rest = inputs[:consts], inputs[consts:consts + carried], inputs[consts + carried:]
    body = functools.partial(self._body, _open(params["jaxpr"]), head, rest)
    return _steady(body, carry)

  def _while(self, params: Any, inputs: list[Sources]) -> list[Sources]:
    cond, body = params["cond_nconsts"], params["body_nconsts"]
    carry = inputs[cond + body:]
    step = functools.partial(self._body, _open(params["body_jaxpr"]), inputs[cond:cond + body], [])
    carry = _steady(step, carry)
    self.outputs(_open(params["cond_jaxpr"]), [*inputs[:cond], *carry])
    return carry

  def _body(self, jaxpr: Any, head: list[Sources], rest: list[Sources],
            carry: list[Sources]) -> list[Sources]:
    return self.outputs(jaxpr, [*head, *carry, *rest])


def _steady(step: Callable[[list[Sources]], list[Sources]], carry: list[Sources]) -> list[Sources]:
  """Returns a loop's outputs, once what it carries is computed from no more than before."""
  while True:
    outs = step(carry)
    after = [_all_of([before, out]) for before, out in zip(carry, outs[:len(carry)], strict=True)]
    if after == carry:
      return [*carry, *outs[len(carry):]]
    carry = after


def _open(jaxpr: Any) -> Any:
  return open_jaxpr(jaxpr)[0]


def _all_of(inputs: Sequence[Sources]) -> Sources:
  """Returns what a value is computed from that is computed from others."""
  found: frozenset[str] = frozenset()
  for sources in inputs:
    if sources is None:
      return None
    found |= sources
  return found

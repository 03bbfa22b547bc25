"""Programs without programs in them, of primitives that the converter writes rightly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import Literal, primitives

from compress_jax.export.widening import as_declared, rounded, widened, widened_equation
from compress_jax.leaves.base import Array
from compress_jax.lift.interpreter import Interpreter
from compress_jax.lift.registry import RULES, bind
from compress_jax.lift.rules import control_flow

# Programs in programs whose own name no graph keeps.
_INLINED = {primitives.jit_p: "jaxpr", primitives.remat_p: "jaxpr",
            primitives.custom_jvp_call_p: "call_jaxpr", primitives.custom_vjp_call_p: "call_jaxpr"}
_LOOPS = (primitives.scan_p, primitives.while_p, primitives.cond_p)


class Inliner(Interpreter):
  """Runs a program's own programs in its place, but for loops and branches."""

  def __init__(self, *_: Any):
    super().__init__(densify=True)

  def step(self, equation: Any, inputs: list[Any]) -> list[Any]:
    if equation.primitive.name == "platform_index":
      return [_platform(equation.params["platforms"])]
    if equation.primitive is primitives.cond_p and isinstance(inputs[0], np.integer):
      branch = equation.params["branches"][inputs[0]]
      return self.run(*control_flow.open_jaxpr(branch), inputs[1:])
    if equation.primitive in _LOOPS:
      return list(RULES[equation.primitive, None](self, equation, *map(self.inside, inputs)))
    name = _INLINED.get(equation.primitive)
    if name is None:
      return super().step(equation, inputs)
    return self.run(*control_flow.open_jaxpr(equation.params[name]), inputs)

  def inside(self, x: Any) -> Any:
    """Returns an input of a loop or of branches as their programs get it.

    Args:
      x: array or `Ref`.
    """
    return x


class Rewriter(Inliner):
  """Writes what is needed of a program of arrays, in primitives that the converter takes."""

  def run(self, jaxpr: Any, consts: Any, inputs: Any) -> list[Any]:
    needed = jaxpr.replace(eqns=_needed(jaxpr))
    return list(map(widened, super().run(needed, map(widened, consts), map(widened, inputs))))

  def step(self, equation: Any, inputs: list[Any]) -> list[Any]:
    wide, inputs = widened_equation(equation), list(map(widened, inputs))
    if equation.primitive in (*_LOOPS, *_INLINED):
      return super().step(wide, inputs)
    rewrite = _REWRITES.get(equation.primitive)
    outs = super().step(wide, inputs) if rewrite is None else [rewrite(wide, *inputs)]
    return rounded(equation, outs)


def rewritten(closed: Any, *inputs: Any) -> list[Any]:
  """Evaluates a program as a graph is to do it.

  Args:
    closed: a closed jaxpr.
    *inputs: its inputs.

  Returns:
    Its outputs.
  """
  return as_declared(closed.jaxpr, Rewriter().run(closed.jaxpr, closed.consts, inputs))


def _platform(platforms: Sequence[Sequence[str] | None]) -> np.integer:
  """Returns which branch of `lax.platform_dependent` a graph has: that of a CPU, or the default."""
  # A graph runs anywhere; the default, None, comes last.
  return np.int32([names is None or "cpu" in names for names in platforms].index(True))


def _needed(jaxpr: Any) -> list[Any]:
  """Returns the equations of a program that its outputs, or effects, come from.

  What a model computes for nothing may have no operator: Flax's recurrent networks split a
  key for a first state that is zeros.
  """
  wanted, kept = _variables(jaxpr.outvars), []
  for equation in reversed(jaxpr.eqns):
    if equation.effects or not wanted.isdisjoint(equation.outvars):
      kept.append(equation)
      wanted |= _variables(equation.invars)
  return kept[::-1]


def _variables(atoms: Sequence[Any]) -> set[Any]:
  return {atom for atom in atoms if not isinstance(atom, Literal)}


def _dot_general(equation: Any, left: Array, right: Array) -> Array:
  """Multiplies; a left matrix that is summed over its first axis is turned round.

  The converter's Gemm sums over the left operand's last axis, whatever is asked for.
  """
  params = equation.params
  (summed, others), (batch, _) = params["dimension_numbers"]
  if left.ndim == right.ndim == 2 and tuple(summed) == (0,) and not batch:
    left = lax.transpose(left, (1, 0))
    params = params | {"dimension_numbers": (((1,), others), ((), ()))}
  return equation.primitive.bind(left, right, **params)


def _convert(equation: Any, x: Array) -> Array:
  """Converts, if that changes anything: bfloat16 is float32 here already."""
  return x if x.dtype == equation.params["new_dtype"] else bind(equation, [x])[0]


def _pad(equation: Any, x: Array, value: Array) -> Array:
  """Pads; where a size is a symbol, as a batch's is, by joining: the converter's Pad takes none."""
  config = equation.params["padding_config"]
  if all(isinstance(n, int) for n in x.shape) or any(between for _, _, between in config):
    return bind(equation, [x, value])[0]
  for axis, (low, high, _) in enumerate(config):
    x = _with_ends(x, value, axis, low, high)
  return x


def _with_ends(x: Array, value: Array, axis: int, low: int, high: int) -> Array:
  """Returns x with a number of values more at both ends of an axis; fewer, if it is negative."""
  if min(low, high) < 0:
    x = lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
  ends = [lax.broadcast(value, (*x.shape[:axis], max(count, 0), *x.shape[axis + 1:]))
          for count in (low, high)]
  parts = [part for part in (ends[0], x, ends[1]) if part is x or part.shape[axis] != 0]
  return lax.concatenate(parts, axis) if len(parts) > 1 else x


# Primitive -> function of an equation and its inputs that gives the result.
_REWRITES: dict[Any, Callable[..., Array]] = {
    primitives.convert_element_type_p: _convert, primitives.dot_general_p: _dot_general,
    primitives.pad_p: _pad}

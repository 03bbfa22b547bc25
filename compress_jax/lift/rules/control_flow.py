"""Rules of primitives that hold programs: the interpreter goes inside."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import primitives

from compress_jax.leaves import parts_of
from compress_jax.leaves.axes import stacked
from compress_jax.lift.contraction import Conv, Dot
from compress_jax.lift.registry import Captured, Ref, as_no_rule, bind, dense_array, register
from compress_jax.lift.rules.products import operands
from compress_jax.lift.surrogate import with_gradient_of


def open_jaxpr(jaxpr: Any) -> tuple[Any, Any]:
  """Returns the open jaxpr in a parameter of an equation, of any JAX version.

  Args:
    jaxpr: an open or closed jaxpr.

  Returns:
    (open jaxpr, constants).
  """
  return getattr(jaxpr, "jaxpr", jaxpr), getattr(jaxpr, "consts", ())


@register(primitives.jit_p)
def _inline(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  return interpreter.run(*open_jaxpr(equation.params["jaxpr"]), inputs)


@register(primitives.remat_p)
def _remat(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  fn = interpreter.sub(*open_jaxpr(equation.params["jaxpr"]))
  fn = jax.checkpoint(fn, prevent_cse=equation.params["prevent_cse"],
                      policy=equation.params["policy"])
  return interpreter.absorb(*fn(*inputs))


@register(primitives.cond_p)
def _cond(interpreter: Any, equation: Any, index: Any, *operands: Any) -> list[Any]:
  branches = [interpreter.sub(*open_jaxpr(b)) for b in equation.params["branches"]]
  if interpreter.watching:
    seen = [jax.eval_shape(branch, *operands)[1] for branch in branches]
    common = _in_all(seen)
    interpreter.unseen.update(path for records in seen for path in records if path not in common)
    branches = [_only(branch, common) for branch in branches]
  return interpreter.absorb(*_chosen(equation, index, branches, operands))


def _chosen(equation: Any, index: Any, branches: Sequence[Any], operands: Sequence[Any]) -> Any:
  """Returns the result of the branch that is taken: by an index, or by the platform."""
  platforms = equation.params.get("branches_platforms")
  if platforms is None:
    return lax.switch(index, branches, *operands)
  # As a switch all branches would be lowered, for platforms that cannot run some of them.
  default, named = None, {}
  for names, branch in zip(platforms, branches, strict=True):
    if names is None:
      default = branch
    else:
      named |= dict.fromkeys(names, branch)
  return lax.platform_dependent(*operands, default=default, **named)


def _in_all(seen: list[dict[str, Any]]) -> set[str]:
  """Returns the paths of the weights that all branches use alike: only these come out."""
  first, *others = seen
  common = set()
  for path, uses in first.items():
    if all(path in records and str(records[path]) == str(uses) for records in others):
      common.add(path)
  return common


def _only(branch: Any, names: set[str]) -> Any:
  def fn(*operands: Any) -> Any:
    outs, records = branch(*operands)
    return outs, {name: records[name] for name in sorted(names)}
  return fn


def scan_sizes(params: dict[str, Any]) -> tuple[int, int]:
  """Returns how many inputs of a `scan` are constants and how many are carried.

  Args:
    params: of the equation, of any JAX version.
  """
  if "num_consts" in params:
    return params["num_consts"], params["num_carry"]
  # JAX 0.12 has a tree of the three kinds instead.
  consts, carry, _ = params["ft_in"].unpack()
  return len(consts), len(carry)


@register(primitives.scan_p)
def _scan(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  p = equation.params
  n_consts, n_carry = scan_sizes(p)
  consts, carry = inputs[:n_consts], inputs[n_consts:n_consts + n_carry]
  carry = [interpreter.plain(x, "scan", "it is carried from step to step") for x in carry]
  given = inputs[n_consts + n_carry:]
  xs = [_stacked(x, p["length"]) for x in given]
  fn = interpreter.sub(*open_jaxpr(p["jaxpr"]))

  def body(carry: Any, xs: Any) -> Any:
    outs, records = fn(*consts, *carry, *xs)
    return outs[:n_carry], (outs[n_carry:], records)

  carry, (ys, records) = lax.scan(body, carry, xs, length=p["length"], reverse=p["reverse"],
                                  unroll=p["unroll"])
  layers, others = _sliced(given, xs, consts)
  return interpreter.absorb([*carry, *ys], {
      path: [_of_steps(use, path in layers, path in others) for use in uses]
      for path, uses in records.items()})


def _sliced(given: Sequence[Any], stacks: Sequence[Any],
            consts: Sequence[Any]) -> tuple[set[str], set[str]]:
  """Returns the weights of which each step of a loop gets a layer of its own, and the others.

  Args:
    given: what the loop slices.
    stacks: the same with the axis in front that it slices.
    consts: what every step gets whole.

  Returns:
    The paths of weights, and of parts of them, that are only taken layer by layer; those of
    which the loop gets slices, but not so.
  """
  own, other = set(), set()
  for x, stack in zip(given, stacks, strict=True):
    of_stack = _parts(stack)
    for path, part in _parts(x).items():
      # What was laid out anew has slices along another axis, or in another order; what all
      # layers share was only repeated; rows of a matrix are no layers.
      is_layer = not x.moved and of_stack[path].ndim == part.ndim and part.ndim > 2
      (own if is_layer else other).add(path)
  layers = own - other - {path for x in consts for path in _parts(x)}
  return layers, (own | other) - layers


def _parts(x: Any) -> dict[str, Any]:
  """Returns the weights in an input by their paths: one, that of each factor, or none."""
  if not isinstance(x, Ref):
    return {}
  return {f"{x.path}/{name}" if name else x.path: part for name, part in parts_of(x.leaf).items()}


def _of_steps(use: Captured, layer: bool, other: bool) -> Captured:
  """Returns what all steps of a loop recorded of a use, with the weight's own axes in front.

  Args:
    use: its first axis is that of the steps.
    layer: whether each step had a layer of its own.
    other: whether each had a slice that is none.
  """
  if layer:
    return dataclasses.replace(use, slices=use.slices + 1)
  if other:
    # Any axes that the use knows are the slice's, and not the weight's.
    return dataclasses.replace(use, slices=0)
  return dataclasses.replace(use, input=jnp.moveaxis(use.input, 0, use.slices),
                             output=jnp.moveaxis(use.output, 0, use.slices))


def _stacked(x: Any, length: int) -> Any:
  """Gives every field of a leaf the leading axis that the scan slices."""
  if not isinstance(x, Ref):
    return x
  with as_no_rule("scan", x.path):
    return dataclasses.replace(x, leaf=stacked(x.leaf, length, x.leaf.ndim - 1))


@register(primitives.while_p)
def _while(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  p = equation.params
  n_cond, n_body = p["cond_nconsts"], p["body_nconsts"]
  cond_consts, body_consts = inputs[:n_cond], inputs[n_cond:n_cond + n_body]
  init = [interpreter.plain(x, "while", "it is carried from step to step")
          for x in inputs[n_cond + n_body:]]
  cond, body = (interpreter.sub(*open_jaxpr(p[k])) for k in ("cond_jaxpr", "body_jaxpr"))

  def outputs(fn: Any, *inputs: Any) -> list[Any]:
    # The number of steps is unknown, so what happens inside cannot be captured.
    outs, records = fn(*inputs)
    interpreter.unseen.update(records)
    return outs

  return lax.while_loop(lambda c: outputs(cond, *cond_consts, *c)[0],
                        lambda c: outputs(body, *body_consts, *c), init)


@register(primitives.custom_vjp_call_p)
@register(primitives.custom_jvp_call_p)
def _custom_derivative(interpreter: Any, equation: Any, *inputs: Any) -> list[Any]:
  """Runs the function on leaves, and differentiates it as its author said."""
  jaxpr, consts = open_jaxpr(equation.params["call_jaxpr"])
  original = functools.partial(bind, equation)

  single = _single_product(jaxpr)
  if single is not None:
    inner, cls, (first, second) = single
    def outer(left: Any, right: Any) -> Any:
      args = list(map(dense_array, inputs))
      args[first], args[second] = left, right
      return original(args)[0]
    return operands(cls, interpreter, inner, inputs[first], inputs[second], outer)
  values = interpreter.run(jaxpr, consts, inputs)
  values = [interpreter.plain(v, equation.primitive.name, "it leaves a custom derivative")
            for v in values]
  surrogates = original(list(map(dense_array, inputs)))
  return [with_gradient_of(lax.stop_gradient(value), surrogate)
          if jnp.issubdtype(value.dtype, jnp.inexact) else value
          for value, surrogate in zip(values, surrogates, strict=True)]


def _single_product(jaxpr: Any) -> tuple[Any, Any, tuple[int, int]] | None:
  """Returns the one product that a jaxpr consists of, and which inputs it takes."""
  while len(jaxpr.eqns) == 1 and jaxpr.eqns[0].primitive is primitives.jit_p:
    equation = jaxpr.eqns[0]
    if list(equation.invars) != list(jaxpr.invars):
      return None
    jaxpr = open_jaxpr(equation.params["jaxpr"])[0]
  if len(jaxpr.eqns) != 1 or jaxpr.outvars != jaxpr.eqns[0].outvars:
    return None
  (equation,) = jaxpr.eqns
  cls = {primitives.dot_general_p: Dot, primitives.conv_general_dilated_p: Conv}.get(
      equation.primitive)
  if cls is None or any(v not in jaxpr.invars for v in equation.invars):
    return None
  return equation, cls, tuple(jaxpr.invars.index(v) for v in equation.invars)

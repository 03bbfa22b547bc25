"""`lift`: any JAX function, run on trees with compressed leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from compress_jax import tree
from compress_jax.leaves import Leaf, input_grid_of, is_leaf
from compress_jax.lift.contraction import Contraction
from compress_jax.lift.registry import PRODUCTS, RULES, Captured, NoRule, Ref, bind, product_rule


def lift(fn: Callable[..., Any], densify: bool = False,
         exact: bool = True) -> Callable[..., Any]:
  """Makes a function run on compressed leaves, by the rules of its primitives.

  The function is traced on arrays of the leaves' shapes and dtypes, and its
  program is interpreted: each product runs as the leaf can do it (integers for
  `Quantized`, two thin products for `LowRank`). jit, grad and vmap work outside;
  inside too, as far as there are rules for the programs that they make. Python
  scalars among the arguments stay python scalars.

  Args:
    fn: any JAX function.
    densify: whether a primitive without a rule runs on the dense array (the input of
      a product rounded as the weight's grid says). If not, it raises: nothing is
      densified unasked.
    exact: whether products of `FakeQuant` leaves add up to the last bit what the
      integers will, which takes several products where sums are long. False
      takes one product of rounded floats: the way to train.

  Returns:
    A function like `fn`, whose arguments may hold compressed leaves.

  Raises:
    NoRule: (when called) a primitive has no rule for a leaf.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.freeze(cj.quantize.affine({"w": jnp.eye(2)}, bits=8))
    >>> apply = lambda params, x: x @ params["w"]
    >>> cj.lift(apply)(params, jnp.array([[1.0, 2.0]])).tolist()
    [[1.0, 2.0]]
  """
  def lifted(*args: Any, **kwargs: Any) -> Any:
    return interpret(Interpreter(densify, exact=exact), fn, args, kwargs)
  return lifted


def capture(fn: Callable[..., Any], where: tree.Where = None,
            densify: bool = False) -> Callable[..., Any]:
  """Makes a function also return what went into and came out of its products.

  Args:
    fn: any JAX function whose first argument is the parameter tree.
    where: which plain weights to watch, by path in the first argument (regular
      expression or predicate; by default every one with two or more
      dimensions). Compressed leaves are always watched.
    densify: see `lift`.

  Returns:
    A function of the same arguments that returns (result, {path: [Captured]}),
    one `Captured(input, output, terms)` a use. Inside `scan` they are stacked; of a
    `cond` come those that all branches have; inside `while` there are none.

  Raises:
    NoRule: (when called) see `lift`.

  Example:
    >>> import jax.numpy as jnp
    >>> import compress_jax as cj
    >>> apply = lambda params, x: x @ params["w"] + 1
    >>> _, seen = cj.capture(apply)({"w": jnp.eye(2)}, jnp.ones((1, 2)))
    >>> seen["w"][0].output.tolist()
    [[1.0, 1.0]]
  """
  def captured(*args: Any, **kwargs: Any) -> Any:
    match = tree.matcher(where)
    interpreter = Interpreter(densify, watching=True)
    watched = {path for path, x in tree.entries(args[0])[0] if tree.is_float(x) and match(path, x)}
    out = interpret(interpreter, fn, args, kwargs, watched)
    return out, interpreter.records
  return captured


def used_in_products(fn: Callable[..., Any], params: Any, *args: Any) -> Callable[[str], bool]:
  """Asks a model which of its parameters products use as weights; nothing is computed.

  For `where=` of a transform, where the default, which goes by names and dimensions, takes
  what is no weight or misses what is one.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree.
    *args: as for `fn`: arrays or `jax.ShapeDtypeStruct`s.

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
  return frozenset(records(fn, params, *args, densify=True)).__contains__


def records(fn: Callable[..., Any], params: Any, *args: Any,
            densify: bool = False) -> dict[str, list[Captured]]:
  """Returns what `capture` would see of all weights, as shapes; nothing is computed.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree; what in it is no array stays as it is.
    *args: arrays or `jax.ShapeDtypeStruct`s.
    densify: see `lift`.

  Returns:
    {path: [Captured]} of `jax.ShapeDtypeStruct`s.

  Raises:
    NoRule: see `lift`.
  """
  return traced(Interpreter(densify, watching=True), fn, params, args,
                {path for path, x in tree.entries(params)[0] if tree.is_float(x)})


def traced(interpreter: Interpreter, fn: Callable[..., Any], params: Any, args: Any,
           watched: Collection[str]) -> dict[str, list[Captured]]:
  """Interprets a program on shapes only.

  Args:
    interpreter: runs it.
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree; what in it is no array stays as it is.
    args: arrays or `jax.ShapeDtypeStruct`s.
    watched: paths of the plain arrays that are recorded too.

  Returns:
    The interpreter's records, as shapes.

  Raises:
    NoRule: see `lift`.
  """
  arrays, rebuild = tree.arrays_of((params, args))

  def run(given: list[Any]) -> dict[str, list[Captured]]:
    params, args = rebuild(given)
    interpret(interpreter, fn, (params, *args), {}, watched)
    return interpreter.records

  return jax.eval_shape(run, arrays)


def interpret(interpreter: Interpreter, fn: Callable[..., Any], args: Any, kwargs: Any,
              watched: Collection[str] = frozenset()) -> Any:
  """Traces `fn` on stand-ins for its leaves and interprets the program.

  Args:
    interpreter: runs it.
    fn: any JAX function.
    args: its arguments, in which leaves may be.
    kwargs: its arguments by name.
    watched: paths of the plain arrays that become references too.

  Returns:
    What `fn` returns.
  """
  flat, structure = tree.entries((args, kwargs))
  flat = [(_short(path), x) for path, x in flat]
  dynamic = [i for i, (_, x) in enumerate(flat) if isinstance(x, Leaf | jax.Array | np.ndarray)]

  def call(*arrays: Any) -> Any:
    values = [x for _, x in flat]
    for i, x in zip(dynamic, arrays, strict=True):
      values[i] = x
    new_args, new_kwargs = jax.tree_util.tree_unflatten(structure, values)
    return fn(*new_args, **new_kwargs)

  # A shape and a dtype are all that tracing sees of a leaf.
  stand_ins = [_stand_in(flat[i][1]) for i in dynamic]
  closed, shape = jax.make_jaxpr(call, return_shape=True)(*stand_ins)
  inputs = []
  for path, x in (flat[i] for i in dynamic):
    inputs.append(Ref(x, path, x.dtype) if is_leaf(x) or path in watched else x)
  outs = interpreter.run(closed.jaxpr, closed.consts, inputs)
  # A weight that the function returns comes out as the leaf that it is.
  outs = [x.whole() if isinstance(x, Ref) else x for x in outs]
  return jax.tree.unflatten(jax.tree.structure(shape), outs)


def _short(path: str) -> str:
  """Names "0/0/a/b" (first argument) a/b, "0/1/a" args[1]/a, and "1/key/a" key=/a."""
  positional, _, path = path.partition("/")
  which, _, rest = path.partition("/")
  if positional == "0" and which == "0":
    return rest
  argument = f"args[{which}]" if positional == "0" else f"{which}="
  return f"{argument}/{rest}" if rest else argument


def _stand_in(x: Any) -> Any:
  return jax.ShapeDtypeStruct(x.shape, x.dtype) if is_leaf(x) else x


class Interpreter:
  """Evaluates a jaxpr whose inputs may be references to leaves.

  Attributes:
    densify: whether a primitive without a rule gets the dense array.
    watching: whether products are recorded.
    exact: whether fake-quantized sums are the integers'; see `lift`.
    records: {path: [Captured]} so far, of the program at this level.
  """

  def __init__(self, densify: bool, watching: bool = False, exact: bool = True):
    self.densify, self.watching, self.exact = densify, watching, exact
    self.records: dict[str, list[Captured]] = {}

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
    """Makes watched arrays beside another weight plain: they are the other operand."""
    weights = sum(isinstance(x, Ref) for x in inputs)
    if equation.primitive not in PRODUCTS or weights < 2:
      return inputs
    return [x.dense() if isinstance(x, Ref) and not x.compressed else x for x in inputs]

  def _on_arrays(self, equation: Any, inputs: list[Any]) -> list[Any]:
    return bind(equation, [self.plain(x, equation, "none is registered") for x in inputs])

  def plain(self, x: Any, equation: Any, why: str) -> Any:
    """Returns `x` as an array where that is allowed.

    Args:
      x: array or `Ref`.
      equation: whose input it is, for the error.
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
      raise NoRule(equation.primitive.name, x.path, f"{kind}, {why}")
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
    found, terms = product_rule(w.kind()), op.terms(w.leaf.shape)
    try:
      if found is None:
        raise NoRule(op.primitive.name, w.path, f"{type(w.leaf).__name__} leaf, none is registered")
      out = found.rule(self, op, x, w)
      if found.by_parts:
        terms = 0  # the products with parts have records of their own, which say what was summed
    except NoRule:
      if w.compressed and not self.densify:
        raise
      out = op(_on_input_grid(x, w.leaf), w.dense())
    out = out.astype(op.dtype)
    self.record(w.path, x, out, terms)
    return out

  def record(self, path: str, x: Any, out: Any, terms: int) -> None:
    """Notes one use of a weight, where products are watched; see `Captured`.

    Args:
      path: of the weight.
      x: what it was applied to.
      out: the result.
      terms: products that each element of the result sums.
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
      outs = inner.run(jaxpr, consts, inputs)
      # JAX's own loops and branches carry arrays only.
      return [inner.plain(x, _Returned, "it is returned") for x in outs], inner.records
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


class _Returned:
  """Stands for the end of an inner program in an error."""

  class primitive:
    name = "return"


def _rule_for(primitive: Any, refs: list[Ref]) -> Any:
  """Returns the rule of the first weight's type that has one, or that of any type, or None."""
  for ref in refs:
    for kind in ref.kind().__mro__:
      if (primitive, kind) in RULES:
        return RULES[primitive, kind]
  return RULES.get((primitive, None))


def _on_input_grid(x: Any, weight: Any) -> Any:
  """Returns the other operand of a product rounded as the weight's grid says, if it has one."""
  grid = input_grid_of(weight)
  if grid is None:
    return x
  return grid.for_input(x).fake_quantize(x).astype(x.dtype)

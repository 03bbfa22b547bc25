"""`lift` and `capture`: any JAX function, traced and run on trees with compressed leaves."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import jax
import numpy as np

from compress_jax import tree
from compress_jax.leaves import Leaf, is_leaf
from compress_jax.lift.interpreter import Interpreter
from compress_jax.lift.registry import Captured, Ref


def lift(fn: Callable[..., Any], *, densify: bool = False,
         exact: bool = True) -> Callable[..., Any]:
  """Makes a function run on compressed leaves, by the rules of its primitives.

  The function is traced on arrays of the leaves' shapes and dtypes, and its
  program is interpreted: each product runs as the leaf can do it (integers for
  `Quantized`, two thin products for `LowRank`). jit, grad and vmap work outside;
  inside too, as far as there are rules for the programs that they make. Python
  scalars among the arguments stay python scalars.

  Integers have no NaN: where a layer's input is quantized on a fixed grid (`calibrate`), a NaN
  in it becomes some code, and does not show in the result. `jax_debug_nans` finds such.

  Args:
    fn: any JAX function.
    densify: whether a primitive without a rule runs on the dense array (the input of
      a product rounded as the weight's grid says, where it is the product that has no
      rule). If not, it raises: nothing is densified unasked.
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


def capture(fn: Callable[..., Any], *, where: tree.Where = None,
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
    one `Captured` a use. Inside `scan` and `shard_map` they are stacked (`slices` says where that
    is layer by layer); of a `cond` come those that all branches have; inside `while` there are
    none.

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


def records(fn: Callable[..., Any], params: Any, *args: Any,
            densify: bool = False) -> dict[str, list[Captured]]:
  """Returns what `capture` would see of all weights, as shapes; nothing is computed.

  Args:
    fn: the model, called as `fn(params, *args)`.
    params: a parameter tree; what in it is not an array stays as it is.
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
    params: a parameter tree; what in it is not an array stays as it is.
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
  closed, shape, entries = program_of(fn, args, kwargs)
  inputs = []
  for path, x in entries:
    inputs.append(Ref(x, path, x.dtype) if is_leaf(x) or path in watched else x)
  outs = interpreter.run(closed.jaxpr, closed.consts, inputs)
  # A weight that the function returns comes out as the leaf that it is.
  outs = [x.whole() if isinstance(x, Ref) else x for x in outs]
  return jax.tree.unflatten(jax.tree.structure(shape), outs)


def program_of(fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Any, Any, list[Any]]:
  """Traces `fn` on stand-ins for its leaves.

  Args:
    fn: any JAX function.
    args: its arguments, in which leaves may be.
    kwargs: its arguments by name.

  Returns:
    (closed jaxpr, the result's shapes, [(path, array or leaf)] for every input of the jaxpr).
  """
  flat, structure = tree.entries((args, kwargs))
  flat = [(_short(path), x) for path, x in flat]
  dynamic = [i for i, (_, x) in enumerate(flat) if is_dynamic(x)]

  rebuild = tree.putting([x for _, x in flat], dynamic, structure)

  def call(*arrays: Any) -> Any:
    new_args, new_kwargs = rebuild(list(arrays))
    return fn(*new_args, **new_kwargs)

  # A shape and a dtype are all that tracing sees of a leaf.
  stand_ins = [_stand_in(flat[i][1]) for i in dynamic]
  closed, shape = jax.make_jaxpr(call, return_shape=True)(*stand_ins)
  return closed, shape, [flat[i] for i in dynamic]


def is_dynamic(x: Any) -> bool:
  """Returns whether a program takes a value as an input: arrays and leaves, no python scalars."""
  return isinstance(x, Leaf | jax.Array | np.ndarray)


def _short(path: str) -> str:
  """Names "0/0/a/b" (first argument) a/b, "0/1/a" args[1]/a, and "1/key/a" key=/a."""
  positional, _, path = path.partition("/")
  which, _, rest = path.partition("/")
  if positional == "0" and which == "0":
    return rest
  argument = f"args[{which}]" if positional == "0" else f"{which}="
  return f"{argument}/{rest}" if rest else argument


def _stand_in(x: Any) -> Any:
  if not is_leaf(x):
    return x
  if jax.sharding.get_abstract_mesh().empty:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)
  # Under an explicit mesh the array's type says how it is sharded, too.
  return jax.eval_shape(x.dense)

"""The program that goes into an ONNX graph: plain primitives, weights and grids as inputs.

Every weight is an input of its own, and where a layer quantizes what goes in, the
program multiplies that by another input, a mark: no optimizer of graphs can touch
either, so that both are found again and replaced by what is stored.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import primitives

from compress_jax import tree
from compress_jax.export.rewriting import Inliner, rewritten
from compress_jax.leaves import Dynamic, Leaf, StaticGrid, base, input_grid_of, is_leaf, parts_of
from compress_jax.leaves.base import Array
from compress_jax.lift.contraction import Contraction, Conv, Dot
from compress_jax.lift.registry import Ref
from compress_jax.lift.tracing import interpret


# Not by `node`: no file may name it.
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weight(Leaf):
  """Stands for an input of the graph, whatever leaf that is.

  Attributes:
    value: float32 array, what the leaf stands for.
    mark: float32 scalar that its layer's input is multiplied by; None for none.
    input: the grid of its layer's input, where no mark can say it.
    bits: of that grid; 0 without one.
    dense_dtype: name of the dtype that the program sees.
  """

  value: Array
  mark: Array | None
  input: StaticGrid | Dynamic | None
  bits: int = base.static(default=0)
  dense_dtype: str = base.static(default="float32")

  laid_out = ("value",)
  in_slices = (("mark", 0), ("input", 0))

  @property
  def shape(self):
    return self.value.shape

  @property
  def dtype(self):
    return jnp.dtype(self.dense_dtype)

  def dense(self) -> Array:
    return self.value.astype(self.dtype)

  def taken(self, rows: Array) -> Weight:
    # No rows share an entry here; graphs have no division of as many numbers as a batch has.
    take = lambda x: jnp.take(x, rows, axis=0, mode="clip")
    return self._rearranged("be looked up by rows", take, lambda x, count: take(x) if count else x)


@dataclasses.dataclass(frozen=True)
class Program:
  """What goes into a graph.

  Attributes:
    jaxpr: of the inputs `stored`, `marks` and x, in that order.
    specs: the inputs' shapes and dtypes.
    stored: {name: array or leaf}, the weights.
    marks: {name: grid}, of the layers' inputs.
  """

  jaxpr: Any
  specs: list[jax.ShapeDtypeStruct]
  stored: dict[str, Any]
  marks: dict[str, StaticGrid | Dynamic]


def program(fn: Callable[..., Any], params: Any, x: jax.ShapeDtypeStruct) -> Program:
  """Traces a model for a graph.

  Args:
    fn: the model, called as `fn(params, x)`.
    params: a frozen parameter tree.
    x: shape and dtype of the input; axes may be symbolic.

  Returns:
    The program; products with factorized weights are its thinner products.

  Raises:
    ValueError: two weights have one name.
  """
  stored, marks = _named(params)

  def call(arrays: list[Array], scalars: list[Array], x: Array) -> Any:
    full = _with_weights(params, dict(zip(stored, arrays, strict=True)),
                         dict(zip(marks, scalars, strict=True)))
    # A leaf that comes out is an array in a graph.
    return tree.dense(interpret(_Tracer(), fn, (full, x), {}))

  specs = [_spec(leaf) for leaf in stored.values()]
  scalars = [jax.ShapeDtypeStruct((), jnp.float32)] * len(marks)
  jaxpr = jax.make_jaxpr(call)(specs, scalars, x)
  # Once more: tracing products made programs in programs too.
  flat = jax.make_jaxpr(functools.partial(rewritten, jaxpr))(*specs, *scalars, x)
  return Program(flat, [*specs, *scalars, x], stored, marks)


def _with_weights(params: Any, arrays: dict[str, Array], marks: dict[str, Array]) -> Any:
  """Returns the tree with inputs of the graph in place of its arrays and leaves."""
  def filled(path: str, x: Any) -> Any:
    if not is_leaf(x):
      return arrays[path].astype(_dtype(x)) if path in arrays else x
    if x.parts:
      parts = parts_of(x).items()
      return x.replace(**{name: filled(f"{path}/{name}", part) for name, part in parts})
    grid = x.input_grid()
    bits = 0 if grid is None else _bits(grid)
    return Weight(arrays[path], marks.get(path), grid, bits=bits, dense_dtype=_dtype(x).name)

  flat, structure = tree.entries(params)
  return jax.tree.unflatten(structure, [filled(f"/{path}", x) for path, x in flat])


def _named(params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns all weights by name, factors apart, and the grids that marks stand for."""
  stored: dict[str, Any] = {}

  def visit(path: str, x: Any) -> None:
    if is_leaf(x) and x.parts:
      for name, part in parts_of(x).items():
        visit(f"{path}/{name}", part)
    elif path in stored:
      raise ValueError(f"params: two weights would be named {path!r}; keys must not hold '/'")
    elif is_leaf(x) or _is_tensor(x):
      stored[path] = x

  for path, x in tree.entries(params)[0]:
    visit(f"/{path}", x)
  grids = {path: input_grid_of(x) for path, x in stored.items()}
  return stored, {path: grid for path, grid in grids.items() if _has_nodes(grid)}


def _is_tensor(x: Any) -> bool:
  """Returns whether a graph can hold an array; PRNG keys stay constants of the program."""
  return isinstance(x, jax.Array | np.ndarray) and not jnp.issubdtype(x.dtype, jax.dtypes.extended)


def _has_nodes(grid: Any) -> bool:
  """Returns whether ONNX has operators for a grid; others are written out in floats."""
  if isinstance(grid, Dynamic):
    return _bits(grid) == 8 and not grid.symmetric
  # An operator has one grid, a stack of layers several.
  return isinstance(grid, StaticGrid) and not np.ndim(grid.scale)


def _bits(grid: StaticGrid | Dynamic) -> int:
  known = np.unique(np.asarray(grid.bits))
  if known.size != 1:
    raise ValueError(f"params: inputs of {known.tolist()} bits in one stack; a graph must have one "
                     "number of bits for all of its layers")
  return int(known[0])


def _spec(x: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(x.shape, jnp.float32 if tree.is_float(x) else _dtype(x))


def _dtype(x: Any) -> np.dtype:
  """Returns an array's dtype in JAX, which has 64 bits only if told to."""
  return jax.dtypes.canonicalize_dtype(x.dtype)


class _Tracer(Inliner):
  """Marks the inputs of quantized weights."""

  def step(self, equation: Any, inputs: list[Any]) -> list[Any]:
    if equation.primitive is primitives.gather_p and isinstance(inputs[0], Ref):
      inputs = [_of_weights(inputs[0]), *inputs[1:]]
    return super().step(equation, inputs)

  def inside(self, x: Any) -> Any:
    # No mark is found in there.
    if not isinstance(x, Ref) or not isinstance(x.leaf, Weight):
      return x
    return dataclasses.replace(x, leaf=x.leaf.replace(mark=None))

  def product(self, op: Contraction, x: Any, w: Ref) -> Any:
    if not isinstance(w.leaf, Weight):
      return super().product(op, x, w)
    op = op.bare()
    if isinstance(op, Conv):
      return _convolution(op, x, w).astype(op.dtype)
    op, x = _over_last(op, x)
    return op(_on_grid(x, w.leaf), w.dense()).astype(op.dtype)


def _of_weights(x: Ref) -> Ref:
  """Returns a reference to the leaf with its factors as `Weight`s, which know how to take rows."""
  factors = {name: Weight(part, None, None, dense_dtype=part.dtype.name)
             for name, part in parts_of(x.leaf).items() if name and not is_leaf(part)}
  return dataclasses.replace(x, leaf=x.leaf.replace(**factors))


def _on_grid(x: Array, leaf: Weight) -> Array:
  """Returns x marked, or rounded to its grid by operations of its own."""
  if leaf.mark is not None:
    return (x.astype(jnp.float32) * leaf.mark).astype(x.dtype)
  if leaf.input is None:
    return x
  # Known bits: graphs cannot shift signed integers.
  grid = leaf.input.replace(bits=leaf.bits)
  return grid.for_input(x).fake_quantize(x).astype(x.dtype)


def _over_last(op: Contraction, x: Array) -> tuple[Contraction, Array]:
  """Turns a matrix whose first axis is summed, as a Gemm needs it, before it is marked."""
  if not isinstance(op, Dot) or op.on_left or not op.is_matrix():
    return op, x
  if x.ndim != 2 or op.x_axes() != (0,):
    return op, x
  return op.over((1,), op.contracted()), jnp.transpose(x)


def _convolution(op: Conv, x: Array, w: Ref) -> Array:
  """Convolves as ONNX does, channels before space: so nothing comes between mark and product."""
  spec = op.params["dimension_numbers"]
  same = tuple(range(op.ndim))
  numbers = lax.ConvDimensionNumbers(same, same, same)
  op = dataclasses.replace(op, params=op.params | {"dimension_numbers": numbers})
  out = op(_on_grid(jnp.transpose(x, spec.lhs_spec), w.leaf),
           jnp.transpose(w.dense(), spec.rhs_spec))
  return jnp.transpose(out, tuple(np.argsort(spec.out_spec).tolist()))

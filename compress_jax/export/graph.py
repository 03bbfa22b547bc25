"""Edits of an ONNX graph: what is stored is put where inputs stand for it."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from compress_jax.export.pooling import with_pools
from compress_jax.export.trace import Program
from compress_jax.export.weights import node, piece, tensor
from compress_jax.extras import need
from compress_jax.leaves import Dynamic, StaticGrid
from compress_jax.leaves.grid import limits


def filled(model: Any, program: Program, x_name: str, y_names: Sequence[str]) -> Any:
  """Puts a program's weights and grids into the graph that was made of it.

  Args:
    model: `onnx.ModelProto`, whose inputs are the program's, in its order.
    program: from `trace.program`.
    x_name: what to call the input that is left.
    y_names: what to call the outputs.

  Returns:
    A new `onnx.ModelProto`.

  Raises:
    ValueError: a layer's input is to be quantized in a place that no graph can say.
  """
  graph = model.graph
  names = _names(graph, program, x_name)
  copies = _name_outputs(graph, names, y_names)
  nodes = [*(_renamed(n, names) for n in graph.node), *copies]
  nodes, orders = _without_transposes(nodes, list(program.stored), set(y_names))
  nodes, grids = _with_grids(nodes, program.marks)
  nodes = with_pools(_with_relus(nodes, graph.initializer))
  # Only where it must be: float32 products keep their bias, see `_without_bias`.
  narrow = _narrow(graph, names)
  nodes = [_without_bias(n) if narrow & set(n.output) else n for n in nodes]
  # What nothing takes any more is not stored; narrow floats are widened before all else.
  used = _used(nodes)
  stored, widening = [], []
  for name, x in program.stored.items():
    if name in used:
      tensors, before = piece(name, x, orders.get(name))
      stored.extend(tensors)
      widening.extend(before)
  return _assembled(model, [*widening, *nodes], [*graph.initializer, *grids, *stored], names)


def _names(graph: Any, program: Program, x_name: str) -> dict[str, str]:
  """Returns {the converter's name: ours} of all inputs."""
  marks = [f"{name}/input" for name in program.marks]
  given = [*program.stored, *marks, x_name]
  return dict(zip([v.name for v in graph.input], given, strict=True))


def _name_outputs(graph: Any, names: dict[str, str], y_names: Sequence[str]) -> list[Any]:
  """Adds our names of the outputs, and gives the graph those.

  Returns:
    Nodes for the outputs that no node makes, or that are another output too: weights and
    constants that come out as they are.
  """
  made, copies = {name for n in graph.node for name in n.output}, []
  for value, name in zip(graph.output, y_names, strict=True):
    given: str = value.name
    if given in made and given not in names:
      names[given] = name
    else:
      copies.append(node("Identity", [names.get(given, given)], name))
    value.name = name
  return copies


def _narrow(graph: Any, names: dict[str, str]) -> set[str]:
  """Returns the values known to be of another dtype than float32."""
  unknown, wide = 0, need("onnx", "onnx").TensorProto.FLOAT
  found = set()
  for value in (*graph.value_info, *graph.output):
    if value.type.tensor_type.elem_type not in (unknown, wide):
      found.add(names.get(value.name, value.name))
  return found


def _used(nodes: list[Any]) -> set[str]:
  """Returns the names of all values that nodes take."""
  return {name for n in nodes for name in _inputs(n)}


def _assembled(model: Any, nodes: list[Any], tensors: list[Any], names: dict[str, str]) -> Any:
  """Returns the model with these nodes and, of the tensors, those that they take."""
  onnx, used = need("onnx", "onnx"), _used(nodes)
  # The last input is x; all others are tensors now.
  inputs, outputs = list(model.graph.input)[-1:], list(model.graph.output)
  for value in inputs:
    value.name = names[value.name]
  graph = onnx.helper.make_graph(nodes, "compress_jax", inputs, outputs,
                                 initializer=[t for t in tensors if t.name in used])
  return onnx.helper.make_model(graph, opset_imports=model.opset_import,
                                ir_version=model.ir_version, functions=model.functions,
                                producer_name="compress_jax")


def _inner(n: Any) -> Iterator[Any]:
  """Yields the nodes of the graphs in a node's attributes."""
  for attribute in n.attribute:
    if attribute.HasField("g"):
      yield from attribute.g.node
    for graph in attribute.graphs:
      yield from graph.node


def _inputs(n: Any) -> Iterator[str]:
  """Yields the names that a node takes, also those that its inner graphs take from outside."""
  yield from n.input
  for inner in _inner(n):
    yield from _inputs(inner)


def _renamed(n: Any, names: dict[str, str]) -> Any:
  """Returns the node, changed in place, with other names for what it takes and gives."""
  for field in (n.input, n.output):
    field[:] = [names.get(name, name) for name in field]
  for inner in _inner(n):
    _renamed(inner, names)
  return n


def _without_transposes(nodes: list[Any], names: list[str],
                        ends: set[str]) -> tuple[list[Any], dict[str, Any]]:
  """Drops the one transposition that all users of a weight want: it is stored so.

  Returns:
    The nodes, and {weight: the order of its axes as they take it}.
  """
  orders = {}
  for name in names:
    users = [n for n in nodes if name in _inputs(n)]
    outputs = {n.output[0] for n in users}
    order = _only_order(users)
    if order is not None and not outputs & ends:
      orders[name] = order
      others = [n for n in nodes if n.output[0] not in outputs]
      nodes = [_renamed(n, dict.fromkeys(outputs, name)) for n in others]
  return nodes, orders


def _only_order(users: list[Any]) -> tuple[int, ...] | None:
  """Returns the order of axes that all of some nodes transpose into; None if they do not."""
  orders = set()
  for n in users:
    # Without an order a Transpose reverses the axes, whose number is not known here.
    if n.op_type != "Transpose" or not n.attribute:
      return None
    orders.add(tuple(n.attribute[0].ints))
  return orders.pop() if len(orders) == 1 else None


def _with_grids(nodes: list[Any], marks: dict[str, Any]) -> tuple[list[Any], list[Any]]:
  """Puts quantization where x is multiplied by a mark.

  Returns:
    The nodes, and the grids' tensors.

  Raises:
    ValueError: a mark is taken by anything else.
  """
  grids = {f"{name}/input": grid for name, grid in marks.items()}
  out, tensors, uses = [], [], collections.Counter()
  for n in nodes:
    found = [name for name in set(_inputs(n)) if name in grids]
    if not found:
      out.append(n)
      continue
    (mark,) = found
    if n.op_type != "Mul":
      raise ValueError(f"{mark.removesuffix('/input')[1:]}: the graph has a {n.op_type} where its "
                       "input is to be quantized; params must hold it without `input`")
    (x,) = [name for name in n.input if name != mark]
    # A layer that is called more than once has its grid once per call, under other names.
    uses[mark] += 1
    name = mark if uses[mark] == 1 else f"{mark}/{uses[mark]}"
    stored, made = _quantization(name, x, n.output[0], grids[mark])
    out.extend(made)
    tensors.extend(stored)
  return out, tensors


def _quantization(name: str, x: str, y: str, grid: StaticGrid | Dynamic) -> tuple[list, list]:
  """Returns the tensors and nodes that round the value `x` to its grid and give `y`.

  Args:
    name: what those are named after.
    x: name of the value.
    y: name of the result.
    grid: of the value.
  """
  parts = [f"{name}/{part}" for part in ("codes", "scale", "zero_point")]
  if isinstance(grid, Dynamic):
    helper = need("onnx", "onnx").helper
    return [], [helper.make_node("DynamicQuantizeLinear", [x], parts, name=name),
                node("DequantizeLinear", parts, y)]
  scale, zero, ends, dtype = _numbers(grid)
  tensors = [tensor(parts[1], scale), tensor(parts[2], zero.astype(dtype))]
  nodes = []
  if ends != (np.iinfo(dtype).min, np.iinfo(dtype).max):
    # A grid of fewer codes than its integers have: clip as QuantizeLinear would not.
    for end, at in zip(("low", "high"), ends, strict=True):
      tensors.append(tensor(f"{name}/{end}", scale * (np.float32(at) - np.float32(zero))))
    nodes = [node("Clip", [x, f"{name}/low", f"{name}/high"], f"{name}/clipped")]
    x = f"{name}/clipped"
  return tensors, [*nodes, node("QuantizeLinear", [x, *parts[1:]], parts[0]),
                   node("DequantizeLinear", parts, y)]


def _numbers(grid: StaticGrid) -> tuple[Any, Any, tuple[int, int], Any]:
  """Returns a grid's scale, zero point, smallest and largest code, and their dtype."""
  zero = np.asarray(0 if grid.zero_point is None else grid.zero_point, np.int32)
  low, high = limits(grid.bits, grid.zero_point is None)
  dtype = np.int16 if grid.may_exceed_8_bits else np.int8
  return np.asarray(grid.scale, np.float32), zero, (int(low), int(high)), dtype


def _with_relus(nodes: list[Any], initializers: Any) -> list[Any]:
  """Names the maximum with zero what tools look for."""
  zeros = {t.name for t in initializers if _is_zero(t)}
  made = []
  for n in nodes:
    others = [name for name in n.input if name not in zeros]
    if n.op_type == "Max" and len(n.input) == 2 and len(others) == 1:
      made.append(node("Relu", others, n.output[0]))
    else:
      made.append(n)
  return made


def _is_zero(t: Any) -> bool:
  """Returns whether a tensor is a single float32 zero."""
  if np.prod(t.dims, dtype=int) != 1:  # before it is read: weights are large
    return False
  x = need("onnx", "onnx").numpy_helper.to_array(t)
  return x.dtype == np.float32 and not x.any()


def _without_bias(n: Any) -> Any:
  """Takes the zero off a Gemm that adds none: the converter makes it float32 in any case.

  A float32 product keeps it: without, ONNX Runtime would see a weight behind a
  DequantizeLinear as one for which it may round the other side, too.
  """
  adds_none = any(a.name == "beta" and a.f == 0 for a in n.attribute)
  if n.op_type != "Gemm" or not adds_none:
    return n
  return node("Gemm", n.input[:2], n.output[0])

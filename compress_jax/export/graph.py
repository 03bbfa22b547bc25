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
  """
  graph = model.graph
  given = [*program.stored, *(f"{name}/input" for name in program.marks), x_name]
  names = dict(zip((v.name for v in graph.input), given, strict=True))
  names |= dict(zip((v.name for v in graph.output), y_names, strict=True))
  nodes = [_renamed(n, names) for n in graph.node]
  nodes, orders = _without_transposes(nodes, list(program.stored), set(y_names))
  nodes, tensors = _with_grids(nodes, program.marks)
  nodes = with_pools(_with_relus(nodes, graph.initializer))
  wide = (0, need("onnx", "onnx").TensorProto.FLOAT)  # 0 is unknown
  narrow = {names.get(v.name, v.name) for v in (*graph.value_info, *graph.output)
            if v.type.tensor_type.elem_type not in wide}
  nodes = [_without_bias(n) if narrow & set(n.output) else n for n in nodes]
  used = {name for n in nodes for name in _inputs(n)}
  pieces = [piece(name, x, orders.get(name)) for name, x in program.stored.items() if name in used]
  nodes = [*(n for _, before in pieces for n in before), *nodes]
  tensors = [*graph.initializer, *tensors, *(t for stored, _ in pieces for t in stored)]
  return _assembled(model, nodes, tensors, names)


def _assembled(model: Any, nodes: list[Any], tensors: list[Any], names: dict[str, str]) -> Any:
  """Returns the model with these nodes and, of the tensors, those that they take."""
  onnx = need("onnx", "onnx")
  used = {name for n in nodes for name in _inputs(n)}
  ends = []
  for values in (list(model.graph.input)[-1:], model.graph.output):
    for value in values:
      value.name = names.get(value.name, value.name)
    ends.append(list(values))
  graph = onnx.helper.make_graph(nodes, "compress_jax", *ends,
                                 initializer=[t for t in tensors if t.name in used])
  return onnx.helper.make_model(graph, opset_imports=model.opset_import,
                                ir_version=model.ir_version, functions=model.functions,
                                producer_name="compress_jax")


def _inner(n: Any) -> Iterator[Any]:
  """Yields the nodes of the graphs in a node's attributes."""
  for attribute in n.attribute:
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
      yield from graph.node


def _inputs(n: Any) -> Iterator[str]:
  yield from n.input
  for inner in _inner(n):
    yield from _inputs(inner)


def _renamed(n: Any, names: dict[str, str]) -> Any:
  for field in (n.input, n.output):
    field[:] = [names.get(name, name) for name in field]
  for inner in _inner(n):
    _renamed(inner, names)
  return n


def _without_transposes(nodes: list[Any], names: list[str],
                        ends: set[str]) -> tuple[list[Any], dict[str, Any]]:
  """Drops the one transposition that all users of a weight want: it is stored so."""
  orders = {}
  for name in names:
    users = [n for n in nodes if name in _inputs(n)]
    wanted = {tuple(tuple(a.ints) for a in n.attribute) for n in users}
    outputs = {n.output[0] for n in users}
    if ({n.op_type for n in users} == {"Transpose"} and len(wanted) == 1 and wanted != {()}
        and not outputs & ends):
      ((orders[name],),) = wanted
      nodes = [_renamed(n, dict.fromkeys(outputs, name)) for n in nodes
               if n.output[0] not in outputs]
  return nodes, orders


def _with_grids(nodes: list[Any], marks: dict[str, Any]) -> tuple[list[Any], list[Any]]:
  """Puts quantization where x is multiplied by a mark.

  Raises:
    ValueError: a mark is taken by anything else.
  """
  grids = {f"{name}/input": grid for name, grid in marks.items()}
  out, tensors, uses = [], [], collections.Counter()
  for n in nodes:
    (mark,) = [name for name in set(_inputs(n)) if name in grids] or [None]
    if mark is None:
      out.append(n)
      continue
    if n.op_type != "Mul":
      raise ValueError(f"{mark.removesuffix('/input')[1:]}: the graph has a {n.op_type} where its "
                       "input is to be quantized; params may hold it without `input`")
    (x,) = [name for name in n.input if name != mark]
    uses[mark] += 1
    name = mark if uses[mark] == 1 else f"{mark}/{uses[mark]}"
    stored, made = _quantization(name, x, n.output[0], grids[mark])
    out.extend(made)
    tensors.extend(stored)
  return out, tensors


def _quantization(name: str, x: str, y: str, grid: StaticGrid | Dynamic) -> tuple[list, list]:
  """Returns the tensors and nodes that round `x` to its grid and give `y`."""
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
    tensors += [tensor(f"{name}/{end}", scale * (np.float32(at) - np.float32(zero)))
                for end, at in zip(("low", "high"), ends, strict=True)]
    nodes = [node("Clip", [x, f"{name}/low", f"{name}/high"], f"{name}/clipped")]
    x = f"{name}/clipped"
  return tensors, [*nodes, node("QuantizeLinear", [x, *parts[1:]], parts[0]),
                   node("DequantizeLinear", parts, y)]


def _numbers(grid: StaticGrid) -> tuple[Any, Any, tuple[int, int], Any]:
  """Returns a grid's scale, zero point, smallest and largest code, and their dtype."""
  zero = np.asarray(0 if grid.zero_point is None else grid.zero_point, np.int32)
  ends = tuple(int(end) for end in limits(grid.bits, grid.zero_point is None))
  dtype = np.int16 if grid.may_exceed_8_bits else np.int8
  return np.asarray(grid.scale, np.float32), zero, ends, dtype


def _with_relus(nodes: list[Any], initializers: Any) -> list[Any]:
  """Names the maximum with zero what tools look for."""
  to_array = need("onnx", "onnx").numpy_helper.to_array
  zeros = {t.name for t in initializers if np.prod(t.dims, dtype=int) == 1
           and to_array(t).dtype == np.float32 and not to_array(t).any()}
  made = []
  for n in nodes:
    others = [name for name in n.input if name not in zeros]
    relu = n.op_type == "Max" and len(n.input) == 2 and len(others) == 1
    made.append(node("Relu", others, n.output[0]) if relu else n)
  return made


def _without_bias(n: Any) -> Any:
  """Takes the zero off a Gemm that adds none: the converter makes it float32 in any case.

  A float32 product keeps it: without, ONNX Runtime would see a weight behind a
  DequantizeLinear as one for which it may round the other side, too.
  """
  none = any(a.name == "beta" and a.f == 0 for a in n.attribute)
  return node("Gemm", n.input[:2], n.output[0]) if n.op_type == "Gemm" and none else n

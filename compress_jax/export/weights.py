"""How each leaf is written in an ONNX graph: what is stored, and the nodes to its array."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from compress_jax.export.extras import need
from compress_jax.leaves import BlockSparse, Clustered, Float, Quantized, dense_of, is_leaf
from compress_jax.leaves.grid import spread
from compress_jax.lift.rules.transpose import transposed

# (tensors that are stored, nodes)
Piece = tuple[list[Any], list[Any]]


def piece(name: str, x: Any, order: tuple[int, ...] | None) -> Piece:
  """Returns what gives a weight in a graph.

  Args:
    name: of the resulting float32 array (an integer array keeps its dtype).
    x: an array or frozen leaf.
    order: its axes as the graph wants them; None as they are.

  Returns:
    Initializers and nodes (`onnx.TensorProto`, `onnx.NodeProto`).

  Example:
    >>> leaf = Quantized(np.ones((2, 3), np.int8), np.ones((1, 3), np.float32), None, None)
    >>> tensors, nodes = piece("/w", leaf, order=None)
    >>> nodes[0].op_type, [tensor.name for tensor in tensors]
    ('DequantizeLinear', ['/w/integers', '/w/scale'])
  """
  if isinstance(x, BlockSparse):
    x = _without_blocks(x)
  if is_leaf(x) and type(x) not in _WRITERS:
    x = dense_of(x)
  x = x if order is None else transposed(x, order, name)
  return _WRITERS.get(type(x), _array)(name, x)


def tensor(name: str, x: Any) -> Any:
  """Returns an array as an initializer."""
  return need("onnx", "onnx").numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape),
                                                      name)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
  """Returns a node of one output, named after it."""
  return need("onnx", "onnx").helper.make_node(kind, inputs, [output], name=output, **attributes)


def _without_blocks(x: BlockSparse) -> Any:
  """Returns the dense leaf or array: ONNX has no blocks."""
  if x.scale is None:
    return x.dense()
  integers = dataclasses.replace(x, scale=None, of=x.blocks.dtype.name).dense()
  scale = x.scale.reshape(*(1,) * (x.ndim - 1), -1)
  return Quantized(integers, scale, None, x.input, bits=x.bits, of=x.of)


def _array(name: str, x: Any) -> Piece:
  """A plain array; narrow floats are stored as such and widened."""
  x = np.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype == np.float32:
    return [tensor(name, x)], []
  return [tensor(f"{name}/values", x)], [_widened(f"{name}/values", name)]


def _widened(source: str, name: str) -> Any:
  return node("Cast", [source], name, to=need("onnx", "onnx").TensorProto.FLOAT)


def _float(name: str, x: Float) -> Piece:
  if x.scale is None:
    return _array(name, x.values)
  tensors, nodes = _array(f"{name}/unscaled", x.values)
  scale = np.asarray(spread(x.scale, x.shape))
  product = node("Mul", [f"{name}/unscaled", f"{name}/scale"], name)
  return [*tensors, tensor(f"{name}/scale", scale)], [*nodes, product]


def _clustered(name: str, x: Clustered) -> Piece:
  codebook = np.asarray(x.codebook, np.float32).copy()
  if x.zero:
    codebook[0] = 0
  names = [f"{name}/codebook", f"{name}/index"]
  # Indices of Gather are int32 or int64; stored they are as narrow as here.
  cast = node("Cast", names[1:], f"{name}/at", to=need("onnx", "onnx").TensorProto.INT32)
  gather = node("Gather", [names[0], f"{name}/at"], name, axis=0)
  return [tensor(names[0], codebook), tensor(names[1], np.asarray(x.index))], [cast, gather]


def _quantized(name: str, x: Quantized) -> Piece:
  """Integers and a DequantizeLinear: per tensor, per channel, or by blocks along an axis."""
  lay, attributes = _layout(tuple(np.shape(x.scale)), x.shape)
  tensors = [tensor(f"{name}/integers", np.asarray(x.integers)),
             tensor(f"{name}/scale", lay(np.asarray(x.scale, np.float32)))]
  if x.zero_point is not None:
    zero = np.broadcast_to(np.asarray(x.zero_point), np.shape(x.scale))
    tensors.append(tensor(f"{name}/zero_point", lay(zero.astype(x.integers.dtype))))
  return tensors, [node("DequantizeLinear", [t.name for t in tensors], name, **attributes)]


def _layout(groups: tuple[int, ...],
            shape: tuple[int, ...]) -> tuple[Callable[[Any], Any], dict[str, int]]:
  """Returns how a scale of shape `groups` is laid out, and the node's attributes.

  ONNX takes a scalar, a vector along one axis, or, with a block size, an array like
  the weight whose one axis has an entry a block.
  """
  varying = [a for a, n in enumerate(groups) if n != 1]
  if not varying:
    return (lambda s: s.reshape(())), {}
  if len(varying) == 1 and groups[varying[0]] == shape[varying[0]]:
    return (lambda s: s.reshape(-1)), {"axis": varying[0]}
  axis = next((a for a in varying if groups[a] < shape[a]), varying[0])
  full = tuple(groups[axis] if a == axis else n for a, n in enumerate(shape))
  lay = lambda s: np.broadcast_to(np.asarray(spread(s, full)), full)
  return lay, {"axis": axis, "block_size": shape[axis] // groups[axis]}


_WRITERS: dict[type, Callable[[str, Any], Piece]] = {
    Quantized: _quantized, Float: _float, Clustered: _clustered}

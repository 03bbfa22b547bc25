"""How each leaf is written in an ONNX graph: what is stored, and the nodes to its array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.extras import need
from compress_jax.leaves import BlockSparse, Clustered, Float, Leaf, Quantized, dense_of
from compress_jax.leaves.axes import transposed
from compress_jax.leaves.grid import spread

# (tensors that are stored, nodes)
Piece = tuple[list[Any], list[Any]]
Writer = Callable[[str, Any], Piece]

# Leaf type -> how it is stored; what has no writer is stored as its dense array.
WRITERS: dict[type[Leaf], Writer] = {}


def register_onnx(leaf: type[Leaf]) -> Callable[[Writer], Writer]:
  """Registers how a type of frozen leaf is stored in an ONNX graph.

  Args:
    leaf: the leaf type.

  Returns:
    A decorator for writer(name, leaf) -> (tensors, nodes): the `onnx.TensorProto`s that
    are stored and the `onnx.NodeProto`s that make of them the float32 array `name`.
  """
  def add(writer: Writer) -> Writer:
    WRITERS[leaf] = writer
    return writer
  return add


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
  for cls, simpler in _SIMPLER.items():
    if isinstance(x, cls):
      x = simpler(x)
  writer = _writer(type(x))
  if writer is None:
    writer, x = _array, dense_of(x)
  return writer(name, x if order is None else transposed(x, order))


def _writer(kind: type) -> Writer | None:
  """Returns how a type of leaf is stored: by its own writer, or that of a base class."""
  for cls in kind.__mro__:
    if cls in WRITERS:
      return WRITERS[cls]
  return None


def tensor(name: str, x: Any) -> Any:
  """Returns an array as an initializer.

  Args:
    x: array.
    name: of the tensor.

  Returns:
    `onnx.TensorProto`.
  """
  return need("onnx", "onnx").numpy_helper.from_array(np.ascontiguousarray(x).reshape(x.shape),
                                                      name)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
  """Returns a node of one output, named after it.

  Args:
    kind: of operator.
    inputs: names of the values that it takes.
    output: name of the value that it gives.
    **attributes: of the operator.

  Returns:
    `onnx.NodeProto`.
  """
  return need("onnx", "onnx").helper.make_node(kind, inputs, [output], name=output, **attributes)


def _without_blocks(x: BlockSparse) -> Any:
  """Returns the dense leaf or array: ONNX has no blocks."""
  if x.scale is None:
    return x.dense()
  integers = x.replace(scale=None, dense_dtype=x.blocks.dtype.name).dense()
  scale = x.scale.reshape(*(1,) * (x.ndim - 1), -1)
  return Quantized(integers, scale, None, x.input, bits=x.bits,
                   dense_dtype=x.dense_dtype)


def _of_one_codebook(x: Clustered) -> Clustered:
  """Returns a stack as one leaf, whose codebook is those of its layers one after the other."""
  stacked, entries = x.codebook.shape[:-1], x.codebook.shape[-1]
  if not stacked:
    return x
  codebook, index = np.asarray(x.codebook).copy(), np.asarray(x.index)
  if x.zero:
    codebook[..., 0] = 0
  start = np.arange(0, codebook.size, entries)
  index = index + start.reshape(*stacked, *(1,) * (index.ndim - len(stacked)))
  index = index.astype(np.min_scalar_type(codebook.size - 1))
  return x.replace(codebook=codebook.reshape(-1), index=index, zero=False)


def _array(name: str, x: Any) -> Piece:
  """A plain array, of a dtype that JAX has; narrow floats are stored as such and widened."""
  x = np.asarray(x)
  x = x.astype(jax.dtypes.canonicalize_dtype(x.dtype), copy=False)
  if not jnp.issubdtype(x.dtype, jnp.floating) or x.dtype == np.float32:
    return [tensor(name, x)], []
  return [tensor(f"{name}/values", x)], [_widened(f"{name}/values", name)]


def _widened(source: str, name: str) -> Any:
  return node("Cast", [source], name, to=need("onnx", "onnx").TensorProto.FLOAT)


@register_onnx(Float)
def _float(name: str, x: Float) -> Piece:
  if x.scale is None:
    return _array(name, x.values)
  tensors, nodes = _array(f"{name}/unscaled", x.values)
  scale = np.asarray(spread(x.scale, x.shape))
  product = node("Mul", [f"{name}/unscaled", f"{name}/scale"], name)
  return [*tensors, tensor(f"{name}/scale", scale)], [*nodes, product]


@register_onnx(Clustered)
def _clustered(name: str, x: Clustered) -> Piece:
  codebook = np.asarray(x.codebook, np.float32).copy()
  if x.zero:
    codebook[0] = 0
  names = [f"{name}/codebook", f"{name}/index"]
  # Indices of Gather are int32 or int64; stored they are as narrow as here.
  cast = node("Cast", names[1:], f"{name}/at", to=need("onnx", "onnx").TensorProto.INT32)
  gather = node("Gather", [names[0], f"{name}/at"], name, axis=0)
  return [tensor(names[0], codebook), tensor(names[1], np.asarray(x.index))], [cast, gather]


@register_onnx(Quantized)
def _quantized(name: str, x: Quantized) -> Piece:
  """Integers and a DequantizeLinear: per tensor, per channel, or by blocks along an axis."""
  lay, attributes = _layout(tuple(np.shape(x.scale)), x.shape)
  dtype = _stored_dtype(x)
  tensors = [tensor(f"{name}/integers", np.asarray(x.integers).astype(dtype)),
             tensor(f"{name}/scale", lay(np.asarray(x.scale, np.float32)))]
  if x.zero_point is not None:
    zero = np.broadcast_to(np.asarray(x.zero_point), np.shape(x.scale))
    tensors.append(tensor(f"{name}/zero_point", lay(zero.astype(dtype))))
  return tensors, [node("DequantizeLinear", [t.name for t in tensors], name, **attributes)]


def _stored_dtype(x: Quantized) -> Any:
  """Returns the dtype of integers and zero points: of up to four bits two share a byte."""
  limits = jnp.iinfo(jnp.int4)
  # A leaf made by hand may have the code of 0.0 outside of its grid.
  codes = [np.asarray(codes) for codes in (x.integers, x.zero_point) if codes is not None]
  narrow = all(((limits.min <= c) & (c <= limits.max)).all() for c in codes)
  return jnp.int4 if x.bits <= 4 and narrow else x.integers.dtype


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
  # The others are stored as large as the weight is along them.
  axis = max(range(len(shape)), key=lambda a: shape[a] // groups[a])
  full = tuple(groups[axis] if a == axis else n for a, n in enumerate(shape))
  lay = lambda s: np.broadcast_to(np.asarray(spread(s, full)), full)
  return lay, {"axis": axis, "block_size": shape[axis] // groups[axis]}


# Leaves that ONNX has no form for -> the nearest leaf or array that it has one for.
_SIMPLER = {BlockSparse: _without_blocks, Clustered: _of_one_codebook}

"""`onnx`: the deployed model as a graph, its integers behind DequantizeLinear."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jax.extend.core import jaxpr_as_fun

from compress_jax import checks, tree
from compress_jax.export import inputs
from compress_jax.export.graph import filled
from compress_jax.export.trace import Program, program
from compress_jax.extras import need
from compress_jax.io import files

_FIRST_OPSET = 21  # the first with 16-bit and blocked DequantizeLinear


def onnx(path: str | os.PathLike[str], fn: Callable[..., Any], params: Any, x: Any, *,
         opset: int = _FIRST_OPSET, batch: str | None = "b") -> int:
  """Writes the compressed model as an ONNX graph.

  A `Quantized` leaf at "layer/kernel" becomes the initializer "/layer/kernel/integers"
  (up to 4 bits as int4, two in a byte; up to 8 as int8) and a DequantizeLinear: per
  tensor, channel or block. Where it has a grid for its layer's input, a QuantizeLinear
  and a DequantizeLinear come before the product; a DynamicQuantizeLinear where the grid
  is dynamic, of 8 bits. Factors are products of their own, codebooks are Gathers, narrow
  floats are widened, blocks and masks are stored dense. Where `lift` has no rule for a
  leaf, its dequantized array is used. The graph's input is "input"; its outputs are
  "output", or "output_0", "output_1", ... in the order of the model's leaves.

  The file says which integers there are; what is computed with them is the runtime's
  affair. ONNX Runtime 1.32 on a CPU (with AVX2) rounds inputs with a QuantizeLinear,
  dequantizes both sides and computes the Gemm, Conv or Einsum in floats; it has no
  operator of integers left in its optimized graphs. The file is smaller there, not faster.
  bfloat16 is computed in float32 and rounded, as ONNX Runtime has no products of it.

  Args:
    path: the file; replaced once the new one is complete.
    fn: the model, called as `fn(params, x)`.
    params: a parameter tree; trainable leaves are frozen first.
    x: an input, or its `jax.ShapeDtypeStruct`.
    opset: version of the operators, from 21 to the newest of the installed onnx; a runtime
      may know fewer.
    batch: name of the first axis of x, which then may have any size; None where the
      model does not allow that: the graph then takes batches of x's size.

  Returns:
    The file's size in bytes.

  Raises:
    ImportError: the package jax2onnx or onnx is missing.
    ValueError: `opset` or `batch` is none of those, the model does not take batches of
      any size, or a layer's input is quantized in a place that no graph can say.
    NotImplementedError: jax2onnx has no operator for something in the model.

  Example:
    >>> import tempfile, jax.numpy as jnp, numpy as np, onnxruntime
    >>> import compress_jax as cj
    >>> path = tempfile.mkdtemp() + "/model.onnx"
    >>> params = cj.quantize.affine({"w": jnp.eye(2)}, bits=8)
    >>> _ = cj.export.onnx(path, lambda p, x: x @ p["w"], params, jnp.ones((1, 2)))
    >>> session = onnxruntime.InferenceSession(path)
    >>> session.run(["output"], {"input": np.array([[1, 2], [3, 4]], np.float32)})[0].tolist()
    [[1.0, 2.0], [3.0, 4.0]]
  """
  # Asked for at once: a missing package is not found out after minutes of tracing.
  for module in ("jax2onnx", "onnx"):
    need(module, "onnx")
  _check_opset(opset)
  params = tree.freeze(params)
  model = inputs.any_batch(lambda spec: _model(program(fn, params, spec), opset), x, batch)
  return files.write(path, model.SerializeToString())


def _check_opset(opset: int) -> None:
  newest = need("onnx.defs", "onnx").onnx_opset_version()
  checks.whole("opset", opset, _FIRST_OPSET)
  if opset > newest:
    raise ValueError(f"opset={opset}: must be a whole number from {_FIRST_OPSET} to {newest}, the "
                     "newest that the installed onnx has")


def _model(traced: Program, opset: int) -> Any:
  """Returns the checked `onnx.ModelProto` of a program."""
  convert = need("jax2onnx", "onnx").to_onnx
  with _quiet():
    made = convert(jaxpr_as_fun(traced.jaxpr), traced.specs, opset=opset)
  count = len(made.graph.output)
  names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
  model = filled(made, traced, "input", names)
  need("onnx.checker", "onnx").check_model(model, full_check=True)
  return model


@contextmanager
def _quiet() -> Iterator[None]:
  """Keeps the converter from warning of types that are inferred again afterwards."""
  logger = logging.getLogger("onnx_ir.serde")
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)

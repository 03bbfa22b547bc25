"""`stablehlo`: the deployed program as one file that needs only JAX."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.export

from compress_jax import tree
from compress_jax.export import inputs
from compress_jax.io import files
from compress_jax.lift.tracing import lift

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def stablehlo(path: str | os.PathLike[str], fn: Callable[..., Any], params: Any, x: Any, *,
              platforms: Sequence[str] = ("cpu",), batch: str | None = "b",
              densify: bool = False) -> int:
  """Writes the compressed model as a serialized StableHLO program, weights inside.

  A process without this package runs it:
  `jax.export.deserialize(bytearray(open(path, "rb").read())).call(x)`; it computes
  to the last bit what `jax.jit(lambda x: lift(fn)(params, x))` does on the frozen tree.

  Args:
    path: the file; replaced once the new one is complete.
    fn: the model, called as `fn(params, x)`.
    params: a parameter tree; trainable leaves are frozen first.
    x: an input, or its `jax.ShapeDtypeStruct`.
    platforms: where the program is to run: "cpu", "cuda", "rocm", "tpu".
    batch: name of the first axis of x, so that the program takes any number of
      examples; None where the model does not allow that (it asks for `len(x)`, say):
      the program then takes batches of x's size.
    densify: whether what `lift` has no rule for runs on dense arrays; see there.

  Returns:
    The file's size in bytes.

  Raises:
    ValueError: a platform or `batch` is none of those, or the model does not take
      batches of any size.
    NoRule: see `lift`.

  Example:
    >>> import tempfile, jax, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> params = cj.quantize.affine({"w": jnp.eye(2)}, bits=8)
    >>> path = tempfile.mkdtemp() + "/model.stablehlo"
    >>> _ = cj.export.stablehlo(path, lambda p, x: x @ p["w"], params, jnp.ones((1, 2)))
    >>> program = jax.export.deserialize(bytearray(open(path, "rb").read()))
    >>> program.call(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[1.0, 2.0], [3.0, 4.0]]
  """
  _check_platforms(platforms)
  params = tree.freeze(params)
  # The weights are constants of the program, not its inputs.
  run = jax.jit(lambda x: lift(fn, densify=densify)(params, x))
  export = jax.export.export(run, platforms=tuple(platforms))
  exported = inputs.any_batch(export, x, batch)
  return files.write(path, bytes(exported.serialize()))


def _check_platforms(platforms: Any) -> None:
  # A string is a sequence, too: of letters.
  if isinstance(platforms, str) or not platforms or not set(platforms) <= set(_PLATFORMS):
    raise ValueError(f"platforms={platforms!r}: must be a sequence of {', '.join(_PLATFORMS)}")

"""The zoo's convolution and its gradients beside what JAX derives, by shape.

python -m benchmarks.bench_convolution [--dtype=float32] [--batch=128] [--repeats=5]

3 x 3 kernels, no stride, made-up images. What JAX derives is timed as it stands; within a loop,
as in training, it is slower on some shapes (`experiments/models/convolution.py`).
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from experiments import cpu

# In front of everything that imports JAX, as `launch.py` does.
_FLAGS_SET = cpu.prepare()

# ruff: noqa: E402
import jax
from jax import lax

from benchmarks.timing import in_turns
from benchmarks.torch_process import DTYPES
from experiments.models.convolution import conv_general_dilated

_DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "Of images and kernels.")
_BATCH = flags.DEFINE_integer("batch", 128, "Images.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.")

_CONVOLUTIONS = {"ours": conv_general_dilated, "JAX's": lax.conv_general_dilated}
# Channels in and out, side of the images: of ResNet-18, ResNet-20, DenseNet-40 and a stem.
SHAPES = ((64, 64, 32), (128, 128, 16), (256, 256, 8), (512, 512, 4), (16, 16, 32), (32, 32, 16),
          (64, 64, 8), (200, 12, 32), (300, 12, 16), (400, 12, 8), (3, 64, 32))


def main(_: Sequence[str]) -> None:
  """Prints GFLOP/s: forward, then the gradients of kernel and images, ours and JAX's."""
  if _FLAGS_SET:
    print(_FLAGS_SET)
  for inputs, outputs, side in SHAPES:
    seconds = in_turns(_runs(inputs, outputs, side), _REPEATS.value)
    work = 2e-9 * 9 * inputs * outputs * side**2 * _BATCH.value
    rates = [f"{way} {work / statistics.median(times):,.0f}" for way, times in seconds.items()]
    print(f"{inputs} to {outputs}, {side} x {side}: {', '.join(rates)}", flush=True)


def _runs(inputs: int, outputs: int, side: int) -> dict[str, Callable[[], Any]]:
  keys = jax.random.split(jax.random.key(0), 3)
  x = jax.random.normal(keys[0], (_BATCH.value, side, side, inputs), _DTYPE.value)
  w = jax.random.normal(keys[1], (3, 3, inputs, outputs), _DTYPE.value)
  g = jax.random.normal(keys[2], (_BATCH.value, side, side, outputs), _DTYPE.value)
  runs = {"forward": functools.partial(jax.jit(_convolved), x, w)}
  for of, place in {"kernel's": 1, "images'": 0}.items():
    for whose, convolve in _CONVOLUTIONS.items():
      program = jax.jit(functools.partial(_gradient, convolve, place))
      runs[f"{of} gradient {whose}"] = functools.partial(program, x, w, g)
  return runs


def _convolved(x: jax.Array, w: jax.Array, convolve: Any = lax.conv_general_dilated) -> jax.Array:
  return convolve(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _gradient(convolve: Any, place: int, x: jax.Array, w: jax.Array, g: jax.Array) -> jax.Array:
  _, undo = jax.vjp(lambda x, w: _convolved(x, w, convolve), x, w)
  return undo(g)[place]


if __name__ == "__main__":
  app.run(main)

"""Layers on 8-bit integers beside float32, by kind of layer, rows and kind of grid.

python -m benchmarks.bench_integers [--repeats=15]

Four equal layers with ReLU, on made-up weights; calls are timed in turns, eight in a row. Sizes
are those at which a whole network differs from its parts: XLA's CPU backend writes some operands
out in 32 bits, whose memory is new in every call from 32 MiB on.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

import compress_jax as cj
from benchmarks.timing import in_turns, ratios

_REPEATS = flags.DEFINE_integer("repeats", 15, "Measurements of each.")

_LAYERS = 4
# What is multiplied: the shapes of a weight and of the input.
SHAPES = {
    "3 x 3 x 64 x 64, one 32 x 32 image": ((3, 3, 64, 64), (1, 32, 32, 64)),
    "3 x 3 x 512 x 512, one 4 x 4 image": ((3, 3, 512, 512), (1, 4, 4, 512)),
    "2048 x 2048, 1 row": ((2048, 2048), (1, 2048)),
    "2048 x 2048, 64 rows": ((2048, 2048), (64, 2048)),
}


def main(_: Sequence[str]) -> None:
  """Prints the ratios to float32."""
  for name, (weight, images) in SHAPES.items():
    seconds = in_turns(_runs(weight, images), _REPEATS.value, burst=8)
    for way, times in seconds.items():
      print(f"{name}, {way}: {1e3 * statistics.median(times):.2f} ms; of float32: "
            f"{ratios(times, seconds['float32'])}", flush=True)


def _runs(weight: tuple[int, ...], images: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
  keys = jax.random.split(jax.random.key(0), _LAYERS + 1)
  he = jax.nn.initializers.he_normal()
  params = {f"layer{i}": he(key, weight) for i, key in enumerate(keys[1:])}
  x = jnp.abs(jax.random.normal(keys[0], images))
  runs = {"float32": functools.partial(jax.jit(_apply), params, x)}
  lifted = jax.jit(cj.lift(_apply))
  only = cj.freeze(cj.quantize.affine(params, 8))
  runs["weights in 8 bits, inputs in float32"] = functools.partial(lifted, only, x)
  for way, (weights, inputs) in {
      "zero points of neither": (True, True), "of inputs": (True, False),
      "of weights and inputs": (False, False)}.items():
    fake = cj.quantize.calibrate(_apply, cj.quantize.affine(params, 8, symmetric=weights), [x],
                                 symmetric=inputs)
    runs[way] = functools.partial(lifted, cj.freeze(fake), x)
  return runs


def _apply(params: Any, x: jax.Array) -> jax.Array:
  for name in sorted(params):
    x = jax.nn.relu(_product(x, params[name]))
  return x


def _product(x: jax.Array, w: jax.Array) -> jax.Array:
  if w.ndim == 2:
    return x @ w
  return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME",
                                      dimension_numbers=("NHWC", "HWIO", "NHWC"))


if __name__ == "__main__":
  app.run(main)

"""What masks, fake quantization and traced hyper-parameters cost; ratios of one run.

python -m benchmarks.bench_transforms [--batch=64] [--size=32]

1. A training step with masks, and one with 8-bit fake quantization of weights and
   inputs, against the plain step of the same ConvNet (aim: at most 1.05 times).
2. 6 sparsities x 3 precisions of a small CNN, 50 steps each, as traced values of
   one program, against compiling each cell (aim: at least 8 times less time).
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

import compress_jax as cj
from benchmarks.timing import in_turns, ratios
from experiments import models
from experiments.training.draws import random_key

_BATCH = flags.DEFINE_integer("batch", 64, "Images per step.")
_SIZE = flags.DEFINE_integer("size", 32, "Side of the images.")
_STEPS = flags.DEFINE_integer("steps", 10, "Steps per measurement.")
_REPEATS = flags.DEFINE_integer("repeats", 31, "Measurements of each.")
_ADAM = optax.adam(1e-3)

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
BITS = (4, 8, 16)
CELL_STEPS = 50
WIDTHS = ((16, 32, 64), (64, 128, 256))


def main(_: Sequence[str]) -> None:
  """Prints both measurements."""
  for widths in WIDTHS:
    steps(widths)
  grid()


def steps(widths: tuple[int, ...]) -> None:
  """Prints the cost of masks and of fake quantization in a training step.

  Args:
    widths: channels of the ConvNet's convolutions.
  """
  model, params, x, y = _problem(widths, (128, 64), _BATCH.value, _SIZE.value)

  def apply(params: Any, x: Any) -> Any:
    return model.apply({"params": params}, x, train=False)

  def dense(params: Any, x: Any) -> Any:
    return apply(cj.dense(params), x)

  masked, rounded = cj.prune.magnitude(params, 0.9), cj.quantize.affine(params, 8)
  fake = cj.quantize.calibrate(apply, rounded, x)
  seconds = in_turns({
      "plain": _runner(dense, params, x, y), "masks": _runner(dense, masked, x, y),
      "int8 weights": _runner(dense, rounded, x, y),
      "int8 weights and inputs": _runner(cj.lift(apply, exact=False), fake, x, y)},
      _REPEATS.value)
  plain = seconds["plain"]
  print(f"ConvNet {widths}, {_SIZE.value} x {_SIZE.value}, batch {_BATCH.value}, "
        f"{1e3 * statistics.median(plain) / _STEPS.value:.1f} ms per plain step")
  for name, times in seconds.items():
    print(f"step with {name}, of plain: {ratios(times, plain)}; fastest to fastest "
          f"{min(times) / min(plain):.3f}")


def grid() -> None:
  """Prints the time of the 18 cells, traced and each compiled by itself."""
  model, params, x, y = _problem((8, 8), (16,), 16, 12)
  compiled = 0

  def dense(params: Any, x: Any) -> Any:
    return model.apply({"params": cj.dense(params)}, x, train=False)

  def cell(params: Any, sparsity: Any, bits: Any) -> Any:
    # Runs while tracing only: once per program.
    nonlocal compiled
    compiled += 1
    params = cj.quantize.affine(cj.prune.magnitude(params, sparsity), bits)
    return _train(dense, params, x, y, CELL_STEPS)[1]

  cells = [(sparsity, bits) for sparsity in SPARSITIES for bits in BITS]
  start = time.perf_counter()
  traced = jax.jit(cell)
  one = [float(traced(params, sparsity, bits)) for sparsity, bits in cells]
  together, programs = time.perf_counter() - start, compiled
  start = time.perf_counter()
  # The numbers as Python constants: one program for each cell.
  each = []
  for sparsity, bits in cells:
    alone = jax.jit(functools.partial(cell, sparsity=sparsity, bits=bits))
    each.append(float(alone(params)))
  apart = time.perf_counter() - start
  print(f"{len(cells)} cells of {CELL_STEPS} steps: traced {together:.2f} s "
        f"({programs} compilation), each compiled {apart:.2f} s "
        f"({compiled - programs} compilations): {apart / together:.1f} times less; "
        f"final losses differ by at most {np.abs(np.subtract(one, each)).max():.1e}")


def _problem(widths: tuple[int, ...], hidden: tuple[int, ...], batch: int,
             size: int) -> tuple[Any, Any, jax.Array, jax.Array]:
  """Returns a model without batch norm, its parameters, images and labels."""
  model = models.create("convnet", num_classes=10, widths=widths, hidden=hidden, folded=True)
  # Two batches that take turns: nothing can be computed once for all steps.
  x = jax.random.normal(random_key(0), (2, batch, size, size, 3))
  return model, jax.jit(model.init)(random_key(1), x[0])["params"], x, jnp.arange(batch) % 10


def _runner(apply: Callable[..., Any], params: Any, x: Any, y: Any) -> Callable[[], Any]:
  """Returns a function that trains for some steps in one compiled call."""
  program = jax.jit(lambda params: _train(apply, params, x, y, _STEPS.value))
  return functools.partial(program, params)


def _train(apply: Callable[..., Any], params: Any, x: Any, y: Any,
           count: int) -> tuple[Any, jax.Array]:
  """Returns the trainable part after some steps, and the last loss."""
  trainable, rest = cj.partition(params)

  def loss(trainable, i):
    return cj.distill.cross_entropy(apply(cj.merge(trainable, rest), x[i % 2]), y)

  def step(i, carry):
    trainable, adam, _ = carry
    value, grads = jax.value_and_grad(loss)(trainable, i)
    updates, adam = _ADAM.update(grads, adam)
    return optax.apply_updates(trainable, updates), adam, value

  start = (trainable, _ADAM.init(trainable), jnp.float32(0))
  trainable, _, value = jax.lax.fori_loop(0, count, step, start)
  return trainable, value


if __name__ == "__main__":
  app.run(main)

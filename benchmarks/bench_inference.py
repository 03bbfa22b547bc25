"""Milliseconds of a forward pass in float32 and in integers, beside ONNX Runtime's.

python -m benchmarks.bench_inference [--models=resnet18,vgg] [--batches=1,64]

Ours are XLA's float32 and the frozen 8-bit model by `cj.lift`; ONNX Runtime runs what
`cj.export.onnx` writes of both, on as many threads. All are timed in turns in one process, on
made-up weights and images: look at the ratios. Calls of a few images are timed eight in a row.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from absl import app, flags

import compress_jax as cj
from benchmarks import nets
from benchmarks.timing import in_turns, ratios
from experiments.training import loop

_MODELS = flags.DEFINE_list("models", ["resnet18", "vgg"], f"Of {', '.join(nets.NETS)}.")
_BATCHES = flags.DEFINE_list("batches", ["1", "64"], "Images of a call.")
_REPEATS = flags.DEFINE_integer("repeats", 15, "Measurements of each.")

_LARGE = 16  # images, from which on a call takes long enough to be timed alone


def main(_: Sequence[str]) -> None:
  """Prints milliseconds of each way, and the ratios to ONNX Runtime's float32."""
  for name in _MODELS.value:
    for batch in map(int, _BATCHES.value):
      images = np.random.default_rng(0).normal(size=(batch, 32, 32, 3)).astype(np.float32)
      burst = 8 if batch < _LARGE else 1
      seconds = in_turns(_runs(name, images), _REPEATS.value, burst)
      for way, times in seconds.items():
        print(f"{name}, batch {batch}, {way}: {statistics.median(times) * 1e3:.2f} ms; of ONNX "
              f"Runtime's float32: {ratios(times, seconds['ONNX Runtime float32'])}", flush=True)


def _runs(name: str, images: np.ndarray) -> dict[str, Callable[[], Any]]:
  variables = loop.initial(nets.create(name), images.shape[1:], 0)
  model, dense = nets.folded(name, variables)
  integers = nets.integers(model, dense, jnp.asarray(images))
  apply = nets.apply_of(model)
  ours = {"ours float32": (jax.jit(apply), dense), "ours int8": (jax.jit(cj.lift(apply)), integers)}
  runs = {way: functools.partial(run, params, jnp.asarray(images))
          for way, (run, params) in ours.items()}
  with tempfile.TemporaryDirectory() as folder:
    for dtype, params in (("float32", dense), ("int8", integers)):
      path = Path(folder) / f"{dtype}.onnx"
      cj.export.onnx(path, apply, params, images)
      runs[f"ONNX Runtime {dtype}"] = functools.partial(
          _session(path).run, None, {"input": images})
  return runs


def _session(path: Path) -> onnxruntime.InferenceSession:
  options = onnxruntime.SessionOptions()
  # XLA takes all cores too.
  options.intra_op_num_threads = os.cpu_count() or 1
  return onnxruntime.InferenceSession(path, options)


if __name__ == "__main__":
  app.run(main)

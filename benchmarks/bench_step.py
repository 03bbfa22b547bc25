"""Images per second of training steps, in float32 and bfloat16, beside PyTorch's.

python -m benchmarks.bench_step [--models=resnet18,vgg] [--batch=128] [--dtype=float32]
    [--torch_python=PATH]

Every model trains with Adam on the same made-up images. PyTorch (eager, channels last,
bfloat16 by autocast) runs in a process of its own, in the Python that --torch_python names, so
that the two need not share one; without it, in this Python if torch is installed. Steps are
timed in turns: look at the ratios.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import app, flags

from experiments import cpu

# In front of everything that imports JAX, as `launch.py` does.
_FLAGS_SET = cpu.prepare()

# ruff: noqa: E402
from benchmarks import nets, torch_process
from benchmarks.nets import NETS
from benchmarks.timing import in_turns, ratios
from benchmarks.torch_process import DTYPES
from experiments.training import loop

_MODELS = flags.DEFINE_list("models", list(NETS), f"Of {', '.join(NETS)}.")
_DTYPES = flags.DEFINE_multi_enum(
    "dtype", list(DTYPES), DTYPES, "Of the computation; may be given twice. PyTorch takes a minute "
    "for a step in bfloat16 on a CPU without instructions for it.")
_SIZE = flags.DEFINE_integer("size", 32, "Side of the images, a multiple of 32.")
_BATCH = flags.DEFINE_integer("batch", 128, "Images per step.")
_STEPS = flags.DEFINE_integer("steps", 3, "Steps per measurement.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.")
_TORCH = flags.DEFINE_string("torch_python", "", "A Python that has torch and numpy.")


def main(_: Sequence[str]) -> None:
  """Prints a line per model: images per second, and the ratios to PyTorch and to float32."""
  if _FLAGS_SET:
    print(_FLAGS_SET)
  python = _TORCH.value or (sys.executable if importlib.util.find_spec("torch") else "")
  if not python:
    print("torch is not installed: no ratio to it; --torch_python= names a Python that has it")
  for name in _MODELS.value:
    if name not in NETS:
      raise app.UsageError(f"--models={name}: must be of {', '.join(NETS)}")
    runs = {f"ours {dtype}": jax_steps(name, dtype) for dtype in _DTYPES.value}
    with torch_process.started(python, name, _SIZE.value, _BATCH.value, _STEPS.value) as torch:
      runs |= {f"torch {dtype}": torch[dtype] for dtype in torch if dtype in _DTYPES.value}
      _print(name, in_turns(runs, _REPEATS.value))


def _print(name: str, seconds: Mapping[str, list[float]]) -> None:
  count = _BATCH.value * _STEPS.value
  rates = [f"{which} {count / statistics.median(times):,.0f}" for which, times in seconds.items()]
  print(f"{name}, images/s: {', '.join(rates)}", flush=True)
  if set(_DTYPES.value) == set(DTYPES):
    print("  our bfloat16 to our float32: "
          f"{ratios(seconds['ours float32'], seconds['ours bfloat16'])}")
  for dtype in _DTYPES.value:
    if f"torch {dtype}" in seconds:
      print(f"  to PyTorch, {dtype}: {ratios(seconds[f'torch {dtype}'], seconds[f'ours {dtype}'])}",
            flush=True)


def jax_steps(name: str, dtype: str) -> Callable[[], Any]:
  """Returns a function that trains for some steps, as `loop.fit` does.

  Args:
    name: one of `NETS`.
    dtype: of the computation, one of `DTYPES`.
  """
  model = nets.create(name, dtype)
  variables = loop.initial(model, (_SIZE.value, _SIZE.value, 3), 0)
  program, state, data = nets.training(model, variables, _SIZE.value, _BATCH.value, _STEPS.value)

  def run() -> Any:
    # The steps take the state's memory over: every call goes on from the last one's.
    nonlocal state
    state, sums = program(state, data, nets.NUMBERS, 0, _STEPS.value)
    return sums

  return run


if __name__ == "__main__":
  app.run(main)

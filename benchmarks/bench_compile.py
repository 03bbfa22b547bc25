"""Seconds of compiling a network's programs, with the settings that users have.

python -m benchmarks.bench_compile [--models=convnet,densenet] [--batch=128]

Each program is compiled once, nothing comes from a cache. As machines are noisy, look at the
ratios to the first network's training step, which is compiled again beside every network.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags

from experiments import cpu

# In front of everything that imports JAX, as `launch.py` does.
_FLAGS_SET = cpu.prepare()

# ruff: noqa: E402
import jax
import jax.numpy as jnp

from benchmarks import nets
from benchmarks.nets import NETS
from experiments.training import evaluate, loop
from experiments.training.draws import random_key

_MODELS = flags.DEFINE_list("models", ["convnet", "resnet20", "resnet18", "vgg", "densenet"],
                            f"Of {', '.join(NETS)}.")
_SIDE = flags.DEFINE_integer("side", 32, "Of the images, in pixels.")
_BATCH = flags.DEFINE_integer("batch", 128, "Images per step.")

Program = tuple[Any, tuple[Any, ...]]  # a jitted function and its arguments


def main(_: Sequence[str]) -> None:
  """Prints a line per network and program: seconds, and the ratio to the reference's."""
  if _FLAGS_SET:
    print(_FLAGS_SET)
  # Or a folder from the user's environment would answer.
  jax.config.update("jax_enable_compilation_cache", False)
  unknown = set(_MODELS.value) - set(NETS)
  if unknown:
    raise app.UsageError(f"--models={','.join(sorted(unknown))}: must be of {', '.join(NETS)}")
  reference = functools.partial(_training, *_made(_MODELS.value[0]))
  for name in _MODELS.value:
    programs = _programs(name)
    unit = _seconds(reference)
    for what, make in programs.items():
      seconds = _seconds(make)
      print(f"{name}, {what}: {seconds:.1f} s, {seconds / unit:.2f} of {_MODELS.value[0]}'s step",
            flush=True)


def _programs(name: str) -> dict[str, Callable[[], Program]]:
  """Returns {what a program does: what makes it, so that nothing is traced before}."""
  model, variables = _made(name)
  return {"initialization": functools.partial(_initialization, model),
          "training step": functools.partial(_training, model, variables),
          "evaluation": functools.partial(_evaluation, model, variables),
          "8-bit integers": functools.partial(_integers, name, variables)}


def _seconds(make: Callable[[], Program]) -> float:
  """Returns how long XLA takes for a program, without tracing."""
  # Jitted functions are kept, and what they have compiled with them.
  jax.clear_caches()
  program, arguments = make()
  lowered = program.lower(*arguments)
  start = time.perf_counter()
  lowered.compile()
  return time.perf_counter() - start


def _made(name: str) -> tuple[Any, Any]:
  model = nets.create(name)
  return model, loop.initial(model, (_SIDE.value, _SIDE.value, 3), 0)


def _initialization(model: Any) -> Program:
  image = jnp.zeros((1, _SIDE.value, _SIDE.value, 3))
  return jax.jit(functools.partial(model.init, train=False)), (random_key(0), image)


def _training(model: Any, variables: Any) -> Program:
  program, state, data = nets.training(model, variables, _SIDE.value, _BATCH.value, 1)
  return program, (state, data, nets.NUMBERS, 0, 1)


def _evaluation(model: Any, variables: Any) -> Program:
  images = jnp.zeros((evaluate.BATCH, _SIDE.value, _SIDE.value, 3), jnp.uint8)
  return evaluate.logits_program(model), (variables, images)


def _integers(name: str, variables: Any) -> Program:
  """Returns the program that the quantized, frozen model is evaluated by."""
  model, params = nets.folded(name, variables)
  frozen = nets.integers(model, params, jnp.ones((1, _SIDE.value, _SIDE.value, 3)))
  images = jnp.zeros((evaluate.BATCH, _SIDE.value, _SIDE.value, 3), jnp.uint8)
  return evaluate.logits_program(model, lifted=True), ({"params": frozen}, images)


if __name__ == "__main__":
  app.run(main)

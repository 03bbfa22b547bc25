"""The same cells of a grid, trained in three ways that must agree.

Looped over one program, side by side under `vmap`, and each as a program of its own, in
which sparsity and bits are constants.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from experiments.studies.grid import training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """What is trained in every way.

  Attributes:
    model: a zoo model.
    params: dense parameters to start from.
    cells: (sparsity, bits) of every cell.
    numbers: the same as arrays, {"sparsity", "bits"}.
    data: {"images", "labels", "order", "offset", "key", "epoch"}, as `training.program` takes them.
    plan: what cells have in common.
  """

  model: Any
  params: Any
  cells: Sequence[tuple[float, int]]
  numbers: Any
  data: Any
  plan: training.Plan


class _Counted:
  """A function that counts how often it is traced: once per program that JAX compiles."""

  def __init__(self, function: Callable[..., Any]):
    self.function, self.traced = function, 0

  def __call__(self, *args: Any) -> Any:
    self.traced += 1  # runs while tracing only, not in the compiled program
    return self.function(*args)


def compare(task: Task, accuracy: Callable[[Any], float]) -> list[dict[str, Any]]:
  """Trains the cells in three ways.

  Args:
    task: what is trained.
    accuracy: of dense parameters, 0 to 1.

  Returns:
    One row per way: {"way", "programs", "seconds", "weights_differ",
    "accuracy_differs"}; the last two are the largest differences from the looped ones.
  """
  rows, reference = [], None
  for name, way in (("looped", looped), ("vmapped", vmapped), ("separate", separate)):
    # Compiling counts: it is what the ways differ in most.
    start = time.perf_counter()
    states, programs = jax.block_until_ready(way(task))
    seconds = time.perf_counter() - start
    weights = [training.weights(state["params"], bits)
               for state, (_, bits) in zip(states, task.cells, strict=True)]
    scores = np.array([accuracy(params) for params in weights])
    if reference is None:
      reference = weights, scores
    rows.append({"way": name, "programs": programs, "seconds": round(seconds, 2),
                 "weights_differ": _farthest(weights, reference[0]),
                 "accuracy_differs": float(np.abs(scores - reference[1]).max())})
  return rows


def _farthest(ours: Any, theirs: Any) -> float:
  """Returns the largest difference between two trees' elements."""
  far = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), ours, theirs)
  return max(jax.tree.leaves(far))


def looped(task: Task) -> tuple[list[Any], int]:
  """Trains cells one after the other, all by one program.

  Args:
    task: what is trained.

  Returns:
    The cells' final states, and how many programs were compiled.
  """
  counted = _Counted(training.program(task.model, task.plan))
  run = jax.jit(counted)
  states = []
  for i in range(len(task.cells)):
    cell = _element(task.numbers, i)
    states.append(run(training.start(task.params), cell, task.data, 0, task.plan.steps)[0])
  return states, counted.traced


def vmapped(task: Task) -> tuple[list[Any], int]:
  """Trains all cells side by side in one program.

  Args:
    task: what is trained.

  Returns:
    The cells' final states, and how many programs were compiled.
  """
  counted = _Counted(training.program(task.model, task.plan))
  run = jax.jit(jax.vmap(counted, (0, 0, None, None, None)))
  count = len(task.cells)
  start = jax.tree.map(lambda x: np.stack([x] * count), training.start(task.params))
  together = run(start, task.numbers, task.data, 0, task.plan.steps)[0]
  return [_element(together, i) for i in range(count)], counted.traced


def separate(task: Task) -> tuple[list[Any], int]:
  """Trains every cell by a program of its own.

  Args:
    task: what is trained.

  Returns:
    The cells' final states, and how many programs were compiled.
  """
  states, programs = [], 0
  for sparsity, bits in task.cells:
    # Numbers of the program, not arguments: nothing about the cell is traced.
    counted = _Counted(functools.partial(
        _one_cell, training.program(task.model, task.plan), task.plan.steps,
        {"sparsity": sparsity, "bits": bits}))
    states.append(jax.jit(counted)(training.start(task.params), task.data))
    programs += counted.traced
  return states, programs


def _one_cell(program: Any, steps: int, cell: Any, state: Any, data: Any) -> Any:
  return program(state, cell, data, 0, steps)[0]


def _element(tree: Any, i: int) -> Any:
  return jax.tree.map(lambda x: x[i], tree)

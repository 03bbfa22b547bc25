"""What is kept of a training after every epoch, so that it goes on there when it was stopped."""

from __future__ import annotations

import shutil
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import jax

import compress_jax as cj
from experiments import faults, hosts

History = list[dict[str, float]]


class Keeper:
  """Saves one epoch while the next one trains."""

  def __init__(self, directory: Path):
    """Saves nothing yet.

    Args:
      directory: of the training's states; it is made when needed.
    """
    self._directory = directory
    self._saving: Future[None] | None = None
    self._path = directory

  def __enter__(self) -> Keeper:
    return self

  def __exit__(self, *error: object) -> None:
    self.wait()

  def keep(self, state: Any, history: History) -> None:
    """Starts to save the state under its epoch's number, after the one before is complete.

    Args:
      state: a tree of arrays; its memory may be given away afterwards.
      history: of all epochs so far.
    """
    self.wait()
    self._directory.mkdir(parents=True, exist_ok=True)
    self._path = self._directory / f"epoch-{len(history):04d}"
    self._saving = cj.checkpoint.save_async(self._path, jax.tree.leaves(state), history=history)

  def wait(self) -> None:
    """Waits until what was kept last is complete, then drops what came before it."""
    saving, self._saving = self._saving, None
    if saving is None:
      return
    with faults.finishing():
      saving.result()
    if not hosts.first():
      return
    for old in _complete(self._directory):
      # Not all others: a process that slept for long must not drop what has been reached since.
      if _number(old) < _number(self._path):
        shutil.rmtree(old, ignore_errors=True)


def count(directory: Path) -> int:
  """Returns how many epochs' training is kept in a directory.

  Args:
    directory: of the training's states.
  """
  return max((_number(path) for path in _complete(directory)), default=0)


def resume(directory: Path, start: Any) -> tuple[Any, History]:
  """Returns the state after the last complete epoch, and the history so far.

  Args:
    directory: of the training's states.
    start: the state at the first step, which is returned where nothing is kept.

  Raises:
    DamagedStage: what is kept cannot be used.
  """
  kept = sorted(_complete(directory), key=_number)
  if not kept:
    return start, []
  try:
    leaves, metadata = cj.checkpoint.load(kept[-1])
  except cj.checkpoint.CheckpointError as error:
    raise cj.stages.DamagedStage(directory, str(error), "train from the start") from error
  return jax.tree.unflatten(jax.tree.structure(start), leaves), metadata["history"]


def _complete(directory: Path) -> list[Path]:
  # A name with a suffix is a checkpoint that was being written, or replaced.
  return [path for path in directory.glob("epoch-*") if not path.suffix]


def _number(path: Path) -> int:
  return int(path.name.removeprefix("epoch-"))

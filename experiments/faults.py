"""What can go wrong while a study runs, as errors that say what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from compress_jax.io import processes
from compress_jax.paths import path_str


class NotFinite(ArithmeticError):
  """Training, or a model, has numbers that are not finite; the message has a hint."""


class NotThere(LookupError):
  """A stage's result that is asked for, and that this run does not have."""


class StageFailed(NotThere):
  """A stage failed in this run; those that start from it cannot run.

  Attributes:
    stage: its name.
  """

  def __init__(self, stage: str, reason: str):
    """Makes the error.

    Args:
      stage: the name of the stage that failed.
      reason: why, for people.
    """
    super().__init__(f"{stage}: {reason}")
    self.stage = stage


class Busy(Exception):
  """Another process works on a stage, or it has not run and nothing may run now.

  Attributes:
    stage: its name.
  """

  def __init__(self, stage: str):
    """Makes the error.

    Args:
      stage: the name of the stage.
    """
    super().__init__(f"{stage}: another process works on it")
    self.stage = stage


def of_one_stage(error: BaseException) -> bool:
  """Returns whether an error ends its stage, and others can go on.

  Args:
    error: anything that a stage's work raised.

  Example:
    >>> of_one_stage(MemoryError()), of_one_stage(ValueError("config"))
    (True, False)
  """
  # A device that has no memory left, or broke. Of a training over several processes it may be
  # that another one is gone, without which no stage goes on.
  on_device = isinstance(error, jax.errors.JaxRuntimeError) and (
      not processes.several() or "RESOURCE_EXHAUSTED" in str(error))
  return anywhere(error) or on_device or isinstance(error, MemoryError)


def anywhere(error: BaseException) -> bool:
  """Returns whether a stage would fail so again, in any process; memory may be there elsewhere.

  Args:
    error: anything that a stage's work raised.

  Example:
    >>> anywhere(NotFinite("loss is nan")), anywhere(MemoryError())
    (True, False)
  """
  # The second is what JAX raises under `jax_debug_nans`.
  return isinstance(error, NotFinite | FloatingPointError)


def in_one_line(error: BaseException) -> str:
  """Returns the text of an error without its line ends, or its type where it has none.

  Args:
    error: any.
  """
  return " ".join(str(error).split()) or type(error).__name__


class Stopped(KeyboardInterrupt):
  """The user or the system stopped the run; the message is where it will go on."""


class DiskFull(OSError):
  """There is no space left; the message says where the run will go on."""


class Terminated(KeyboardInterrupt):
  """SIGTERM or SIGHUP came, which are treated as Ctrl-C is.

  Attributes:
    number: of the signal.
  """

  def __init__(self, number: int):
    """Makes the error.

    Args:
      number: of the signal.
    """
    super().__init__()
    self.number = signal.Signals(number)


class _Signals:
  """What `finishing` and the handler of signals share; a process has one set of handlers."""

  finishing = 0  # how many sections are being finished, one inside the other
  pending: int | None = None  # the signal that waits for them


def on_signal(number: int, _: Any = None) -> None:
  """Handles SIGINT, SIGTERM and SIGHUP: raises, or waits for the end of what `finishing` protects.

  Args:
    number: of the signal.

  Raises:
    KeyboardInterrupt: of any of them; `Terminated` unless it is SIGINT.
  """
  # Who asks twice does not want to wait.
  if _Signals.finishing and _Signals.pending is None:
    _Signals.pending = number
    return
  _Signals.pending = None
  raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def finishing() -> Iterator[None]:
  """Lets a short section end before a signal stops the run: threads that write, for instance."""
  _Signals.finishing += 1
  try:
    yield
  finally:
    _Signals.finishing -= 1
  if _Signals.pending is not None and not _Signals.finishing:
    on_signal(_Signals.pending)


@contextlib.contextmanager
def stoppable(where: Callable[[], str]) -> Iterator[None]:
  """Says in `Stopped` and `DiskFull` where the same command will go on.

  Args:
    where: called when the run is stopped inside, unless something further in knows better.

  Example:
    >>> with stoppable(lambda: "stage kd, epoch 2"):
    ...   raise OSError(errno.ENOSPC, "full", "metrics.json")
    Traceback (most recent call last):
    ...
    experiments.faults.DiskFull: No space left on device (metrics.json); state kept; the same \
command continues at stage kd, epoch 2
  """
  try:
    yield
  except (Stopped, DiskFull):
    raise
  except KeyboardInterrupt as stop:
    raise Stopped(where()) from stop
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise DiskFull(f"{os.strerror(error.errno)} ({error.filename or 'a file'}); state kept; the "
                   f"same command continues at {where()}") from error


class StudyFailed(Exception):
  """Some stages of a study failed; the others ran, and what there is was reported.

  Attributes:
    reported: whether there was a base model, and so a report.
  """

  def __init__(self, text: str, *, reported: bool):
    """Makes the error.

    Args:
      text: what failed and what was skipped.
      reported: whether a report was written.
    """
    super().__init__(text)
    self.reported = reported


def check_epoch(at: str, means: Mapping[str, float], weights: Any, hint: str) -> None:
  """Raises an error where an epoch of training left numbers that are not finite.

  Args:
    at: which epoch, for the message.
    means: of the epoch; losses are those whose name ends in "loss".
    weights: the arrays after the epoch.
    hint: what to do about it.

  Raises:
    NotFinite: names the epoch, what is not finite, and the hint.

  Example:
    >>> check_epoch("epoch 2/4", {"loss": float("nan")}, {}, "lower the learning rate")
    Traceback (most recent call last):
    ...
    experiments.faults.NotFinite: epoch 2/4: loss is nan; lower the learning rate
  """
  for name, value in means.items():
    if name.endswith("loss") and not np.isfinite(value):
      raise NotFinite(f"{at}: {name} is {value}; {hint}")
  check_weights(at, weights, hint)


def check_weights(at: str, weights: Any, hint: str) -> None:
  """Raises an error where arrays have elements that are not finite.

  Args:
    at: what they are of, for the message.
    weights: a tree of arrays and leaves; integers and keys are always finite.
    hint: what to do about it.

  Raises:
    NotFinite: names the first such array, and the hint.
  """
  for path, x in jax.tree_util.tree_leaves_with_path(weights):
    # On the host: no program is compiled for it, and a checkpoint brings them there anyway.
    if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(np.asarray(x)).all():
      raise NotFinite(f"{at}: {path_str(path)} is not finite; {hint}")

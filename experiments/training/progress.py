"""One progress bar for training, on a terminal; one line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich import progress

from experiments import hosts


class Bar:
  """Shows an epoch's progress: loss, accuracy, images per second, time left.

  Used as a context manager; `update` after each compiled call.
  """

  def __init__(self, label: str, steps: int, batch_size: int):
    """Makes the bar of one epoch.

    Args:
      label: in front of the bar.
      steps: of the epoch.
      batch_size: images per step.
    """
    self.label, self.steps, self.batch_size = label, steps, batch_size
    self.start, self.done = time.monotonic(), 0
    self.bar = progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(),
        progress.TextColumn("{task.fields[shown]}"),
        # A file or pipe would get thousands of lines.
        transient=True, disable=not (sys.stdout.isatty() and hosts.first()))

  def __enter__(self) -> Bar:
    with _terminal_may_be_gone():
      self.bar.start()
    self.task = self.bar.add_task(self.label, total=self.steps, shown="compiles")
    return self

  def __exit__(self, *_: Any) -> None:
    with _terminal_may_be_gone():
      self.bar.stop()

  @property
  def images_per_second(self) -> float:
    """Images per second since the start of the epoch."""
    return self.done * self.batch_size / max(time.monotonic() - self.start, 1e-9)

  def update(self, done: int, loss: float, accuracy: float) -> None:
    """Shows how far the epoch is.

    Args:
      done: steps that are complete.
      loss: mean so far.
      accuracy: mean so far, 0 to 1.
    """
    self.done = done
    # By the mean of the epoch: rich's own estimate wants more updates than an epoch may have.
    left = (self.steps - done) * (time.monotonic() - self.start) / max(done, 1)
    shown = (f"loss {loss:.3f}  accuracy {accuracy:.3f}  {self.images_per_second:,.0f} images/s  "
             f"{left:,.0f} s left")
    with _terminal_may_be_gone():
      self.bar.update(self.task, completed=done, shown=shown)


def say(text: str) -> None:
  """Prints a line at once, on a pipe too.

  Args:
    text: the line, without its end.
  """
  if hosts.first():
    with _terminal_may_be_gone():
      print(text, flush=True)


@contextlib.contextmanager
def _terminal_may_be_gone() -> Iterator[None]:
  """Goes on where the terminal was closed under a run (`disown`): what it says is in log.txt."""
  try:
    yield
  except OSError as error:
    if error.errno != errno.EIO:
      raise  # a pipe that nobody reads, say
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclasses.dataclass(frozen=True)
class Log:
  """Prints lines under a label and keeps them in a file.

  Attributes:
    label: starts every line.
    path: the file, appended to.
  """

  label: str
  path: Path

  def say(self, text: str) -> None:
    """Prints and keeps a line.

    Args:
      text: the line, without its end.
    """
    if not hosts.first():
      return
    say(f"{self.label}: {text}")
    # Appended: a resumed stage goes on in the log of the one that was stopped.
    with self.path.open("a") as file:
      file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {self.label}: {text}\n")

  def within(self, label: str) -> Log:
    """Returns the log of a part.

    Args:
      label: of the part, behind this log's own.
    """
    return dataclasses.replace(self, label=f"{self.label} {label}")

"""PyTorch in a process of its own, asked for one measurement at a time."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

DTYPES = ("float32", "bfloat16")


@contextlib.contextmanager
def started(python: str, name: str, size: int, batch: int,
            steps: int) -> Iterator[dict[str, Callable[[], None]]]:
  """Starts PyTorch training a model, and stops it at the end.

  Args:
    python: an interpreter that has torch and numpy; "" for none.
    name: of the model; see `bench_step_torch`.
    size: side of the images, in pixels.
    batch: images per step.
    steps: of one measurement.

  Yields:
    {dtype: a function that trains for so many steps}; empty without an interpreter.
  """
  if not python:
    yield {}
    return
  command = [python, "-m", "benchmarks.bench_step_torch", name, str(size), str(batch), str(steps)]
  with subprocess.Popen(command, cwd=Path(__file__).parent.parent, text=True, bufsize=1,
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
    def asked(dtype: str) -> Callable[[], None]:
      def run() -> None:
        process.stdin.write(f"{dtype}\n")
        # An empty line is the end of its output: it has failed, and said so itself.
        if not process.stdout.readline():
          raise ValueError(f"--torch_python={python}: PyTorch's process ended")
      return run

    yield {dtype: asked(dtype) for dtype in DTYPES}
    process.stdin.close()

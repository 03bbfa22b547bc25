"""The command `compress-jax`: studies, inspection, benchmarks and scores without a checkout.

The studies are not part of the library: a wheel carries them in a folder of their own, from where
they run as they do in a checkout.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

_USAGE = """Usage: compress-jax COMMAND …

  run STUDY[:ARGUMENT] [flags]  run a study: compress-jax run combo:digits
                                (run --help lists them and the flags)
  inspect PATH [flags]          show what a stage, checkpoint, workdir or artifact holds
  bench NAME [flags]            run a benchmark (bench lists them)
  score FILE … [--data_dir=DIR] measure the test accuracy of artifacts, and their sizes
"""
_HERE = Path(__file__).parent


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command.

  Args:
    argv: the command and its arguments; None takes the process's.

  Returns:
    The exit status.

  Example:
    >>> main(["nothing"])  # and says on standard error which commands there are
    2
  """
  command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
  commands = {"run": _run, "inspect": _inspect, "bench": _bench, "score": _score}
  if command in ("--help", "-h", "help"):
    print(_USAGE, end="")
    return 0
  if command not in commands:
    print(f"compress-jax: {command}: must be one of {', '.join(commands)} (--help tells more)",
          file=sys.stderr)
    return 2
  return commands[command](rest)


def home() -> Path:
  """Returns the folder of the studies: the checkout's, or what the wheel brought."""
  checkout = _HERE.parent
  return checkout if (checkout / "launch.py").is_file() else _HERE / "_studies"


def _run(rest: list[str]) -> int:
  if rest and not rest[0].startswith("-"):
    rest[0] = f"--config={_config(rest[0])}"
  _start(home() / "launch.py", rest)
  return 0


def _config(given: str) -> str:
  """Returns the file of a study, and its argument if there is one."""
  name, colon, argument = given.partition(":")
  # A path, right or wrong, is the user's own; only a bare name is one of the studies'.
  if Path(name).name == name and not Path(name).is_file():
    known = home() / "configs" / f"{Path(name).stem}.py"
    name = str(known) if known.is_file() else name
  return f"{name}{colon}{argument}"


def _inspect(rest: list[str]) -> int:
  from compress_jax.inspect.__main__ import main as inspect  # imported late: it reads files
  return inspect(rest)


def _bench(rest: list[str]) -> int:
  folder = home() / "benchmarks"
  known = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
  if not rest or rest[0].removeprefix("bench_") not in known:
    print(f"compress-jax bench: must name one of {', '.join(known)}", file=sys.stderr)
    return 2
  _start(folder / f"bench_{rest[0].removeprefix('bench_')}.py", rest[1:])
  return 0


def _score(rest: list[str]) -> int:
  _start(home() / "experiments" / "score.py", rest)
  return 0


def _start(file: Path, rest: list[str]) -> None:
  """Runs one of the studies' files as a program."""
  folder = str(home())
  sys.path.insert(0, folder)
  # For the processes that it starts: workers, benchmarks of other frameworks.
  paths = [folder, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
  os.environ["PYTHONPATH"] = os.pathsep.join(paths)
  sys.argv = [str(file), *rest]
  try:
    runpy.run_path(str(file), run_name="__main__")
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "compress_jax":
      raise
    raise SystemExit(f"compress-jax: {error.name} is not installed; studies need: pip install "
                     "'compress_jax[studies]'") from error

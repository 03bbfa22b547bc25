"""Runs a study: python launch.py --config=configs/combo.py"""

from __future__ import annotations

import importlib
import os
import pathlib
import re
import runpy
import signal
import sys
import warnings
from typing import Any

from experiments import cpu

# In front of everything that imports JAX, which reads XLA's flags when it starts.
_FLAGS_SET = cpu.prepare()

# ruff: noqa: E402
import jax
from absl import app, flags, logging
from ml_collections import config_flags

from compress_jax import stages
from experiments import faults

_CONFIG = config_flags.DEFINE_config_file("config", None, "The study: a file in configs/, with "
                                          "`:argument` behind it where its docstring names one.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Where stages and results go; a study whose "
                               "stages are there goes on. Default: runs/<config and argument>.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps prepared data, "
                                "or the folder of images. Default: TensorFlow Datasets' own.")
_REPAIR = flags.DEFINE_bool("repair", False, "Remove the stages in the workdir whose files are "
                            "damaged, and run them again.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def main(argv: list[str]) -> None:
  """Calls the function that the configuration names.

  Args:
    argv: what is left of the command line after its flags: the program's name alone.

  Raises:
    ValueError: something in the command line, the configuration, the data or a file
      cannot be used; the message names it.
    StudyFailed: a stage failed; the others ran.
  """
  if len(argv) > 1:
    raise ValueError(f"argument {argv[1]!r}: flags are written --name=value")
  if _FLAGS_SET:
    print(_FLAGS_SET, flush=True)
  workdir = _workdir()
  # Programs compiled once serve the study's next run; a cache of the user's own is kept.
  if not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(workdir / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
  # What is not kept there is compiled again; a full disk is told of when results are written.
  warnings.filterwarnings("ignore", message="Error (writing|reading) persistent compilation cache")
  config = _CONFIG.value
  module, _, function = config.study.rpartition(".")
  if _REPAIR.value:
    for line in stages.repair(workdir):
      print(f"repair: removed {line}", flush=True)
  combinations = _combinations(config)
  failure = None
  try:
    getattr(importlib.import_module(module), function)(config, workdir, _DATA_DIR.value)
  except faults.StudyFailed as error:
    if not error.reported:
      raise  # the combinations start from the base model too
    failure = error
  if combinations is not None:
    from experiments.studies import combo
    combo.run(combinations, workdir, _DATA_DIR.value, workdir / "combo")
  if failure is not None:
    raise failure


def _combinations(config: Any) -> Any:
  """Returns the configuration of the sixteen combinations beside a study, or None."""
  if not config.get("combo") or "combine" not in config:
    return None
  # Imported late, as every study is: most runs need only their own.
  from experiments.studies import combo
  made = combo.beside(config)
  combo.config.check(made)  # now, and not after hours of the study itself
  return made


def _workdir() -> pathlib.Path:
  """Returns the directory to work in, after making it and trying to write there."""
  name = re.sub(r"[^\w=]+", "-", _config_argument().removeprefix("configs/").replace(".py", ""))
  path = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / name.strip("-")).absolute()
  try:
    path.mkdir(parents=True, exist_ok=True)
    # Named by the process, because several studies may share a workdir.
    probe = path / f".probe-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise ValueError(f"workdir={str(path)!r}: cannot be written ({error.strerror}); it must be a "
                     "directory of yours") from None
  return path


def _config_argument() -> str:
  """Returns what was given as --config."""
  return config_flags.get_config_filename(flags.FLAGS["config"])


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; what cannot be parsed is reported like any other error."""
  try:
    rest = flags.FLAGS(argv)
    if not flags.FLAGS["verbosity"].present:
      # Orbax and TFDS tell of every file.
      logging.set_verbosity(logging.ERROR)
    if _CONFIG.value is None:
      raise ValueError("--config is missing: it must be a file in configs/, for instance "
                       "--config=configs/combo.py")
    _ = _CONFIG.value.study  # a file that could not be loaded says so only now
    return rest
  except Exception as error:  # a config file can raise anything
    _fail(_explained(error, argv), "--debug" in argv)


def _explained(error: Exception, argv: list[str]) -> Exception:
  """Returns the error, or one that says more about a missing file or field."""
  given = [flag.partition("=")[2] for flag in argv if re.match(r"--?config=", flag)]
  if not given or not given[-1]:
    return error
  file, _, argument = given[-1].partition(":")
  if not pathlib.Path(file).is_file():
    return ValueError(f"--config={file}: no such file; it must be one of {', '.join(_studies())}")
  if isinstance(error, KeyError | AttributeError):
    return _unknown_field(_loaded(file, argument), argv) or error
  if isinstance(error, flags.UnrecognizedFlagError):
    return _unknown_flag(_loaded(file, argument), error.flagname)
  return error


def _loaded(file: str, argument: str) -> Any:
  """Returns the configuration in a file, without what flags change."""
  get_config = runpy.run_path(file)["get_config"]
  return get_config(argument) if argument else get_config()


def _unknown_flag(config: Any, name: str) -> Exception:
  """Returns an error about a flag that is none, with the fields that it may have meant."""
  # Imported late: a flag that is none is rare, and the checks import JAX's models.
  from experiments.studies import checks
  paths = [path for path, _ in checks.fields(config)]
  meant = [path for path in paths if path == name or path.endswith(f".{name}")]
  if meant:
    hint = f"fields are set by {', '.join(f'--config.{path}=' for path in meant)}"
  else:
    hint = ("it must be --config, --workdir, --data_dir, --repair, --debug, or --config.FIELD= "
            f"for a field of the configuration ({', '.join(sorted(config))})")
  return ValueError(f"--{name}: no such flag; {hint}")


def _studies() -> list[str]:
  """Returns the files in configs/ that are a study's; others hold what studies share."""
  paths = sorted(pathlib.Path("configs").glob("*.py"))
  return [str(path) for path in paths if "def get_config(" in path.read_text()]


def _unknown_field(config: Any, argv: list[str]) -> Exception | None:
  """Returns an error about the first flag that sets a field which is not there, or None."""
  for flag in argv:
    if re.match(r"--?config\.", flag):
      name = flag.partition("=")[0]
      there = _missing(config, name.lstrip("-").split(".")[1:])
      if there is not None:
        return ValueError(f"{name}: no such field; it must be one of {', '.join(there)}")
  return None


def _missing(config: Any, keys: list[str]) -> list[str] | None:
  """Returns the fields there are where `keys` leaves the configuration, or None."""
  for key in keys:
    if key not in config:
      return sorted(config)
    config = config[key]
  return None


def _fail(error: BaseException, debug: bool, code: int = 2, hint: str = "") -> None:
  """Ends with an exit code, 2 where nothing else is said, and one line on standard error."""
  if debug:
    raise error
  text = str(error).strip() or type(error).__name__
  if "Traceback (most recent call last)" in text:
    # config_flags quotes the whole traceback of an error in a config file.
    text = text.splitlines()[-1].partition(": ")[2]
  text = " ".join(text.split())
  print(f"launch.py: {text}{hint}", file=sys.stderr)
  sys.exit(code)


def _run(argv: list[str]) -> None:
  """Runs `main`; what the user can put right is one line, anything else a traceback."""
  try:
    main(argv)
  except faults.StudyFailed as error:
    _fail(error, _DEBUG.value, code=3)
  except stages.DamagedStage as error:
    _fail(error, _DEBUG.value, hint=" (--repair does so)")
  except (ValueError, OSError) as error:
    _fail(error, _DEBUG.value)


def _end_stopped(stop: BaseException) -> None:
  """Ends with the exit code of the signal and one line that says where the run goes on."""
  # What was stopped midway may complain while the interpreter ends.
  warnings.simplefilter("ignore")
  number, cause = signal.SIGINT, stop
  while cause is not None:
    if isinstance(cause, faults.Terminated):
      number = signal.SIGTERM
    cause = cause.__cause__ or cause.__context__
  # Nothing had begun where no stage knows of it.
  where = str(stop) if isinstance(stop, faults.Stopped) else "its beginning"
  print(f"launch.py: stopped ({number.name}); state kept; the same command continues at {where}",
        file=sys.stderr)
  sys.exit(128 + number)


if __name__ == "__main__":
  signal.signal(signal.SIGINT, faults.on_signal)
  signal.signal(signal.SIGTERM, faults.on_signal)
  try:
    # Before the flags are parsed: JAX's own options become flags too.
    jax.config.config_with_absl()
    app.run(_run, flags_parser=_parse)
  except KeyboardInterrupt as stop:
    _end_stopped(stop)

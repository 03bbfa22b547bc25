"""Runs a study: python launch.py --config=configs/combo.py"""

from __future__ import annotations

import importlib
import logging as python_logging
import os
import pathlib
import re
import runpy
import signal
import sys
import textwrap
import uuid
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
from compress_jax.io import leases
from experiments import faults, hosts
from experiments.studies import help
from experiments.studies import manner as manners

# One line each: `--help` shows them in columns.
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The study: a file in configs/, and `:argument` where its docstring names one.")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Where stages and results go. Default: runs/<config and argument>.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared TensorFlow Datasets, or a folder of images. Default: TFDS's own.")
_REPAIR = flags.DEFINE_bool(
    "repair", False, "Remove the workdir's damaged stages, and run them again.")
_WORKER = flags.DEFINE_bool(
    "worker", False, "Share the workdir's stages with other workers, until none is left.")
_EXECUTOR = flags.DEFINE_enum(
    "executor", "local", ["local", "ray"], "What runs the stages: this process, or a Ray cluster.")
_ADDRESS = flags.DEFINE_string(
    "address", "", "Of the Ray cluster, host:port or auto. Default: one on this machine.")
_CPUS = flags.DEFINE_float("cpus", 1, "CPUs of the Ray cluster that a stage takes.", 0)
_GPUS = flags.DEFINE_float("gpus", 0, "GPUs of the Ray cluster that a stage takes.", 0)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Train over several processes, each started with this command.")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "host:port of the first process. Default: found (Slurm, Open MPI, TPU).")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "How many there are. Default: found.", 0)
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Number of this one. Default: found.", -1)
_RETRY_FAILED = flags.DEFINE_bool(
    "retry_failed", False, "Try stages again that failed in an earlier run.")
_PLAN = flags.DEFINE_bool(
    "plan", False, "Print the tree of stages and what is complete of it; run nothing.")
_WATCH = flags.DEFINE_bool(
    "watch", False, "Show the tree of stages until none is left to run; run nothing.")
_LIST = flags.DEFINE_bool("list", False, "List the runs below runs/, or below --workdir.")
_COMPARE = flags.DEFINE_string(
    "compare", None, "Compare runs: A,B with names that --list shows, or paths.")
_REMOVE = flags.DEFINE_string(
    "remove", None, "Remove the results of runs, and the stages that no other run uses: A,B.")
_DEBUG = flags.DEFINE_bool("debug", False, "Show the traceback of an error.")
_FLAGS = (_CONFIG, _WORKDIR, _DATA_DIR, _PLAN, _WATCH, _WORKER, _EXECUTOR, _ADDRESS, _CPUS, _GPUS,
          _DISTRIBUTED, _COORDINATOR, _NUM_PROCESSES, _PROCESS_ID,
          _RETRY_FAILED, _REPAIR, _LIST, _COMPARE, _REMOVE, _DEBUG)


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
  if _looks_at_runs():
    _show_runs(pathlib.Path(_WORKDIR.value or "runs"))
    return
  _check_together()
  if _DISTRIBUTED.value:
    hosts.start(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  manner = _manner()
  if _FLAGS_SET and hosts.first() and not manner.looks:
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
  # Before hours of the study itself.
  combinations = _combinations(config)
  failure = None
  try:
    getattr(importlib.import_module(module), function)(config, workdir, _DATA_DIR.value,
                                                       manner=manner)
  except faults.StudyFailed as error:
    if not error.reported:
      raise  # the combinations start from the base model too
    failure = error
  if combinations is not None:
    from experiments.studies import combo
    combo.run(combinations, workdir, _DATA_DIR.value, workdir / "combo", manner=manner)
  if failure is not None:
    raise failure


def _check_together() -> None:
  """Raises a ValueError for the first flag that would do nothing without another one."""
  needed = [(flag, "--distributed", _DISTRIBUTED.value)
            for flag in (_COORDINATOR, _NUM_PROCESSES, _PROCESS_ID)]
  needed += [(flag, "--executor=ray", _EXECUTOR.value == "ray")
             for flag in (_ADDRESS, _CPUS, _GPUS)]
  for flag, other, there in needed:
    if flag.present and not there:
      raise ValueError(f"--{flag.name}={flag.value}: does nothing without {other}")
  if _REPAIR.value and (_PLAN.value or _WATCH.value):
    raise ValueError("--repair: removes stages; must not be given with --plan or --watch, which "
                     "only look")
  if _WORKER.value and _EXECUTOR.value == "ray":
    raise ValueError("--worker: must not be given with --executor=ray, whose tasks share the "
                     "stages already")


def _manner() -> manners.Manner:
  """Returns how the command line wants the study to be run."""
  looks = "plan" if _PLAN.value else ""
  if _WATCH.value:
    looks = "watch"
  return manners.Manner(
      worker=_WORKER.value, retry_failed=_RETRY_FAILED.value, looks=looks,
      executor=_EXECUTOR.value, address=_ADDRESS.value, cpus=_CPUS.value, gpus=_GPUS.value)


def _looks_at_runs() -> bool:
  """Returns whether the command line asks about runs that there are, and starts none."""
  return _LIST.value or _COMPARE.value is not None or _REMOVE.value is not None


def _show_runs(root: pathlib.Path) -> None:
  """Lists, compares or removes runs below a folder."""
  # Imported late, as every study is.
  from experiments.reporting import removal, run_tables, runs
  if _COMPARE.value is not None:
    folders = runs.chosen(_COMPARE.value, root, "compare")
    print(run_tables.compared(folders, root, help.width()))
  if _REMOVE.value is not None:
    for line in removal.remove(runs.chosen(_REMOVE.value, root, "remove"), root):
      print(textwrap.fill(line, help.width(), subsequent_indent="  ", break_long_words=False,
                          break_on_hyphens=False), flush=True)
  if _LIST.value:
    print(run_tables.listed(root, help.width()))


def _combinations(config: Any) -> Any:
  """Returns the configuration of the sixteen combinations beside a study, or None."""
  if not config.get("combo") or "combine" not in config:
    return None
  # Imported late, as every study is: most runs need only their own.
  from experiments.datasets import builders
  from experiments.studies import combo
  made = combo.beside(config)
  combo.config.check(made)
  combo.config.check_models(made, builders.builder(
      made.data.name, _DATA_DIR.value, made.data.get("side")))
  return made


def _workdir() -> pathlib.Path:
  """Returns the directory to work in, after making it and trying to write there."""
  # The same name from wherever the studies are.
  given = _config_argument().removeprefix(f"{pathlib.Path(__file__).parent}/")
  name = re.sub(r"[^\w=]+", "-", given.removeprefix("configs/").replace(".py", ""))
  path = pathlib.Path(_WORKDIR.value or pathlib.Path("runs") / name.strip("-")).absolute()
  try:
    path.mkdir(parents=True, exist_ok=True)
    # A name of its own, because several studies may share a workdir.
    probe = path / f".probe-{uuid.uuid4().hex}"
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
  """Parses the flags, or prints help; what cannot be parsed is reported like any other error."""
  try:
    if help.asked(argv):
      print(_help(argv))
      sys.exit()
    rest = flags.FLAGS(argv)
    if not flags.FLAGS["verbosity"].present:
      # Orbax and TFDS tell of every file.
      logging.set_verbosity(logging.ERROR)
      # JAX warns where it does not find the GPU that there is: a night on the CPU otherwise.
      python_logging.getLogger("jax").setLevel(python_logging.WARNING)
    if _looks_at_runs():
      return rest
    if _CONFIG.value is None:
      raise ValueError("--config is missing: it must be a file in configs/, for instance "
                       "--config=configs/combo.py (--help lists them)")
    _ = _CONFIG.value.study  # a file that could not be loaded says so only now
    return rest
  except Exception as error:  # a config file can raise anything
    _fail(_explained(error, argv), "--debug" in argv)


def _explained(error: Exception, argv: list[str]) -> Exception:
  """Returns the error, or one that says more about a missing file or field."""
  given = _given_config(argv)
  file = given.partition(":")[0]
  if not given:
    return error
  if not pathlib.Path(file).is_file():
    return ValueError(f"--config={file}: no such file; it must be one of "
                      f"{', '.join(help.studies())}")
  if isinstance(error, KeyError | AttributeError):
    return _unknown_field(_loaded(given), argv) or error
  if isinstance(error, flags.UnrecognizedFlagError):
    return _unknown_flag(_loaded(given), error.flagname)
  return error


def _help(argv: list[str]) -> str:
  """Returns what `--help` prints: the fields of the configuration that is given, if one is."""
  shown = {}
  for holder in _FLAGS:
    ending = "" if flags.FLAGS[holder.name].boolean else "="
    shown[f"--{holder.name}{ending}"] = flags.FLAGS[holder.name].help
  given = _given_config(argv)
  if not given:
    return help.overview(shown, help.width())
  return help.of_config(given, _loaded(given), shown, help.width())


def _given_config(argv: list[str]) -> str:
  """Returns the file and argument of the last --config on a command line, or ""."""
  given = ""
  for flag, following in zip(argv, [*argv[1:], ""], strict=True):
    name, equals, value = flag.partition("=")
    if name in ("--config", "-config"):
      given = value if equals else following
  return given


def _loaded(given: str) -> Any:
  """Returns the configuration in a file, for its argument, without what flags change."""
  file, _, argument = given.partition(":")
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
    hint = (f"it must be {', '.join(f'--{flag.name}' for flag in _FLAGS)}, or --config.FIELD= "
            f"for a field of the configuration ({', '.join(sorted(config))}; --help has all)")
  return ValueError(f"--{name}: no such flag; {hint}")


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
  except BrokenPipeError:
    # `| head` has seen enough; what is still buffered must not complain at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)
  except (ValueError, OSError, leases.LeaseLost) as error:
    _fail(error, _DEBUG.value)
  except jax.errors.JaxRuntimeError as error:
    if not hosts.several():
      raise
    print("launch.py: another process of this training is gone; the same commands go on at the "
          f"last epoch that was kept ({faults.in_one_line(error)[:160]})", file=sys.stderr,
          flush=True)
    # JAX would wait for the others before this process ends.
    os._exit(2)


def _end_stopped(stop: BaseException) -> None:
  """Ends with the exit code of the signal and one line that says where the run goes on."""
  # What was stopped midway may complain while the interpreter ends.
  warnings.simplefilter("ignore")
  number, cause = signal.SIGINT, stop
  while cause is not None:
    if isinstance(cause, faults.Terminated):
      number = cause.number
    cause = cause.__cause__ or cause.__context__
  # Nothing had begun where no stage knows of it.
  where = str(stop) if isinstance(stop, faults.Stopped) else "its beginning"
  print(f"launch.py: stopped ({number.name}); state kept; the same command continues at {where}",
        file=sys.stderr)
  sys.exit(128 + number)


if __name__ == "__main__":
  signal.signal(signal.SIGINT, faults.on_signal)
  signal.signal(signal.SIGTERM, faults.on_signal)
  # A closed terminal, unless `nohup` has it ignored; Windows has no such signal.
  if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
    signal.signal(signal.SIGHUP, faults.on_signal)
  try:
    # Before the flags are parsed: JAX's own options become flags too.
    jax.config.config_with_absl()
    app.run(_run, flags_parser=_parse)
  except KeyboardInterrupt as stop:
    _end_stopped(stop)

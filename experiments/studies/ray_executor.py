"""A study on a Ray cluster: each stage is a task, and its parents are what the task waits for."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax

from experiments import faults
from experiments.studies import tree
from experiments.studies.base import Study
from experiments.studies.manner import Manner
from experiments.training.progress import say

_RETRIES = 3  # of a task whose process or machine died; its stage goes on where it was
# What JAX reads when it starts, on whichever machine.
_PASSED_ON = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64")


def work(studies: Sequence[Study], manner: Manner, data_dir: str | None) -> None:
  """Runs what is missing of a study, one task for each stage of each seed.

  Stages that are only known once others are complete are left for the caller.

  Args:
    studies: one per seed; their workdir is on a file system that all machines share.
    manner: says how many CPUs and GPUs a stage takes, and where the cluster is.
    data_dir: see `builders.builder`.

  Raises:
    ValueError: Ray is not installed, or there is no cluster at the address.
  """
  ray = _started(manner)
  run = ray.remote(num_cpus=manner.cpus, num_gpus=manner.gpus, max_retries=_RETRIES)(_stage)
  tasks: dict[tuple[int, str], Any] = {}
  for study in studies:
    copy = _Copy(kind=type(study), config=study.config, workdir=study.workdir, data_dir=data_dir,
                 seed=study.seed, folder=os.getcwd())
    shared = ray.put(copy)  # pickled once for all of its tasks
    for name in tree.known(copy.study(Manner(looks="plan"))):
      _add(study, name, run, shared, tasks)
  for (seed, name), task in tasks.items():
    try:
      outcome = ray.get(task)
    except ray.exceptions.RayError as error:
      # Out of retries, or an error that is not of one stage: the caller meets it again.
      outcome = f"lost: {faults.in_one_line(error)[:200]}"
    say(f"{name} (seed {seed}): {outcome}")


def _started(manner: Manner) -> Any:
  """Returns Ray, connected."""
  try:
    import ray
  except ImportError:
    raise ValueError("executor='ray': Ray is not installed; it must be there: pip install "
                     "compress_jax[ray]") from None
  # Its processes import what this one does, and their JAX is told the same.
  passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
  cache = jax.config.jax_compilation_cache_dir
  if cache:
    passed["JAX_COMPILATION_CACHE_DIR"] = cache
  passed["PYTHONPATH"] = os.pathsep.join(path for path in (os.getcwd(), *sys.path) if path)
  try:
    ray.init(address=manner.address or None, ignore_reinit_error=True, log_to_driver=False,
             runtime_env={"env_vars": passed})
  except ConnectionError as error:
    raise ValueError(f"address={manner.address!r}: {error}") from None
  return ray


def _add(study: Study, name: str, run: Any, shared: Any, tasks: dict[Any, Any]) -> Any:
  """Returns the task of a stage, after adding those that it waits for."""
  key = study.seed, name
  if key not in tasks:
    before = [_add(study, parent, run, shared, tasks) for parent in study.needs(name)]
    tasks[key] = run.remote(shared, name, *before)
  return tasks[key]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Copy:
  """What makes the same study in another process; a study itself holds the data."""

  kind: type[Study]
  config: Any
  workdir: Any
  data_dir: str | None
  seed: int
  folder: str  # the driver's, to which paths of the configuration may be relative

  def study(self, manner: Manner = Manner()) -> Study:  # noqa: B008, it is frozen
    from experiments.datasets import builders
    os.chdir(self.folder)
    data = self.config.data
    builder = builders.builder(data.name, self.data_dir, data.get("side"))
    return self.kind(self.config, self.workdir, builder, self.seed, None, manner)


def _stage(copy: _Copy, name: str, *_: str) -> str:
  """Runs a stage in a process of the cluster; its parents are complete, or have failed."""
  try:
    copy.study().result(name)
  except faults.StageFailed as error:
    return "failed" if error.stage == name else f"skipped, because {error.stage} failed"
  return "complete"

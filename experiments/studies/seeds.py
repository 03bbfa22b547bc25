"""Runs a study for every seed, and reports what there is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compress_jax.io import files, leases
from experiments import faults, hosts
from experiments.datasets import builders
from experiments.reporting import places
from experiments.studies import failures, recipes, tree, whole, workers
from experiments.studies.base import Study
from experiments.studies.manner import Manner
from experiments.training.progress import say

# Writes what a study leaves behind: (studies, rows of results.csv, folder, configuration).
Report = Callable[[Sequence[Any], Sequence[Mapping[str, Any]], Path, Any], None]


def run(kind: Callable[..., Study], check: Callable[[Any], None], report: Report, config: Any,
        workdir: Path, data_dir: str | None = None, results: Path | None = None, *,
        manner: Manner = Manner()) -> list[dict[str, Any]]:  # noqa: B008, it is frozen
  """Runs a study for every seed, or what is missing of it, and reports what there is.

  Args:
    kind: a subclass of `Study`.
    check: raises a ValueError for a configuration that cannot be used.
    report: called with the studies, one per seed, the rows of results.csv, the folder of
      the report and the configuration.
    config: from a file in `configs/`; has seed and seeds.
    workdir: where stages go.
    data_dir: see `builders.builder`.
    results: where the report will be; None is the workdir. Settings that differ from those
      which are reported there have a folder in it (`places.folder`).
    manner: how it is run; where it only looks, no row is returned and nothing is written.

  Returns:
    The rows of results.csv.

  Raises:
    ValueError: something in the configuration, the data or a file cannot be used;
      the message names it.
    StudyFailed: a stage failed; the others ran and were reported, if there is a base model.
  """
  check(config)
  root = results or workdir
  for folder in (workdir, root):
    folder.mkdir(parents=True, exist_ok=True)
  config = recipes.on_this_machine(config, workdir, keep=not manner.looks)
  builder = builders.builder(config.data.name, data_dir, config.data.get("side"))

  def studies(folder: Path, manner: Manner) -> list[Study]:
    return [kind(config, workdir, builder, seed, folder, manner)
            for seed in range(config.seed, config.seed + config.seeds)]

  if manner.looks:
    tree.show(studies(workdir, manner), once=manner.looks == "plan")
    return []
  with places.held(workdir):
    folder = places.folder(config, root, builders.fingerprint(builder))
    if folder != root:
      say(f"these settings have results of their own in {folder}")
    made = studies(folder, manner)
    looking = dataclasses.replace(manner, looks="plan")
    progress = whole.Whole(studies(folder, looking))
    progress.begins()
    for study in made:
      study.after_stage = progress.goes_on
    if progress.unfinished:
      builders.check(builder, config.data.get("limit") or None)
    return _run(made, config, workdir, data_dir, report, root, manner)


def _run(studies: Sequence[Study], config: Any, workdir: Path, data_dir: str | None,
         report: Report, root: Path, manner: Manner) -> list[dict[str, Any]]:
  """Runs and reports; the caller holds the workdir."""
  studies[0].check()  # seeds differ in nothing that is checked
  if hosts.several() and (manner.worker or manner.executor != "local"):
    raise ValueError("--distributed: one training over several processes; --worker and "
                     "--executor=ray must not be given with it")
  if manner.retry_failed and hosts.first():
    failures.forget(workdir, manner.started)
  hosts.wait("the start")
  if manner.executor == "ray":
    # Imported late: Ray is an extra.
    from experiments.studies import ray_executor
    ray_executor.work(studies, manner, data_dir)
  elif manner.worker:
    workers.work(studies)
  rows = _rows(studies)
  trained = sum(study.stages_run for study in studies)
  say(f"stages run now: {trained}; the rest was complete in {workdir}")
  missing = _missing(studies)
  for line in missing:
    say(line)
  if hosts.first():
    rows = _write(studies, config, root, report, missing)
  hosts.wait("the report")
  if missing:
    ending = "" if rows else "; no results are written, because there is no base model"
    raise faults.StudyFailed(_summary(studies) + ending, reported=bool(rows))
  return rows


def _rows(studies: Sequence[Study]) -> list[dict[str, Any]]:
  """Returns the rows of all seeds; stages that have not run do so now."""
  rows = []
  for study in studies:
    rows += study.rows()
  return rows


def _write(studies: Sequence[Study], config: Any, root: Path, report: Report,
           missing: Sequence[str]) -> list[dict[str, Any]]:
  """Writes the report, where there is one, and what is missing of it; returns its rows."""
  # Workers end together: each waits for the one that writes.
  with faults.stoppable(lambda: "the report"), leases.waited(root / places.REPORT_LEASE):
    # Settings that were started later may have been reported first.
    folder = places.folder(config, root, studies[0].fingerprint)
    for study in studies:
      study.results = folder
    rows = _rows(studies)  # their paths start at that folder; all stages have run
    if rows:
      report(studies, rows, folder, config)
    _keep_missing(missing, folder)
  return rows


def _missing(studies: Sequence[Study]) -> list[str]:
  """Returns one line for each stage that failed, and one for each that was skipped."""
  lines = []
  for study in studies:
    for name, why in study.failed.items():
      lines.append(f"failed: {name} (seed {study.seed}): {why}")
  for study in studies:
    for name, because in study.skipped.items():
      lines.append(f"skipped: {name} (seed {study.seed}), because {because} failed")
  return lines


def _summary(studies: Sequence[Study]) -> str:
  """Returns how many stages failed and were skipped, and the first failure, in one line."""
  failed = sum(len(study.failed) for study in studies)
  skipped = sum(len(study.skipped) for study in studies)
  first = next(line for line in _missing(studies) if line.startswith("failed: "))
  return f"stages failed: {failed}, skipped: {skipped}; {first}"


def _keep_missing(missing: Sequence[str], folder: Path) -> None:
  """Keeps beside the results what is missing of them; complete results have no such file."""
  file = folder / places.MISSING
  if missing:
    files.write(file, "\n".join(missing) + "\n")
  else:
    file.unlink(missing_ok=True)

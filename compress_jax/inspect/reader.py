"""From a path to what is there, without reading weights."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compress_jax import names
from compress_jax.inspect.lineage import Stage, ancestors, depth_first, is_stage, read_stage
from compress_jax.io import (
  artifact,
  checkpoint,
  containers,
  leaf_summary,
  orbax_arrays,
  payloads,
  replacing,
  stage_files,
)
from compress_jax.io.container import MAGIC
from compress_jax.io.leaf_summary import LeafSummary
from compress_jax.io.structure import describe
from compress_jax.leaves import parts_of

KINDS = "a stage's directory, a checkpoint, a workdir (with stages/ in it) or an artifact (.cjx)"
_HINT = f"; a path must be {KINDS}"


class InspectError(ValueError):
  """A path holds nothing that can be inspected."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
  """What is at a path.

  Attributes:
    path: absolute.
    what: "stage", "checkpoint", "orbax" (a checkpoint without a manifest),
      "artifact" or "workdir".
    leaves: in tree order; of a workdir, none.
    metadata: what was saved beside the tree.
    lineage: the stages from the root to the one that this is, or lies in.
    stages: of a workdir.
    failures: what is damaged, as far as was looked.
    gzip_bytes: of all arrays together, where the weights were read.
  """

  path: Path
  what: str
  leaves: tuple[LeafSummary, ...] = ()
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lineage: tuple[Stage, ...] = ()
  stages: tuple[Inspection, ...] = ()
  failures: tuple[str, ...] = ()
  gzip_bytes: int | None = None

  @property
  def stage(self) -> Stage | None:
    """The stage that this is, or lies in."""
    return self.lineage[-1] if self.lineage else None

  @property
  def name(self) -> str:
    """What to call it in a heading."""
    if self.what in ("artifact", "checkpoint") and self.stage:
      return f"{self.stage.id}/{self.path.name}"
    return self.path.name

  @property
  def totals(self) -> dict[str, float | None]:
    """Sums over the leaves; gzip and artifact are of the whole model where known.

    Batch norms' statistics, an optimizer's state, counters and keys are not parameters, but take
    their bytes.
    """
    fixed = names.statistics([leaf.path for leaf in self.leaves])
    learned = [leaf for leaf in self.leaves if leaf.learns and leaf.path not in fixed
               and not names.of_optimizer(leaf.path)]
    params = sum(leaf.params for leaf in learned)
    nonzero = leaf_summary.total([leaf.nonzero for leaf in learned])
    found: dict[str, float | None] = {"params": params, "nonzero": nonzero, "sparsity": None}
    if params and nonzero is not None:
      found["sparsity"] = 1 - nonzero / params
    for field in ("dense_bytes", "nonzero_bytes", "packed_bytes", "gzip_bytes"):
      found[field] = leaf_summary.total([getattr(leaf, field) for leaf in self.leaves])
    numbers = self.stage.numbers if self.stage else {}
    for field, value in found.items():
      if value is None:
        found[field] = numbers.get(field)
    # Compressed together, arrays take less than one by one.
    if self.gzip_bytes is not None:
      found["gzip_bytes"] = self.gzip_bytes
    found["gzip_bytes"] = numbers.get("gzip_bytes", found["gzip_bytes"])
    found["artifact_bytes"] = self._artifact_bytes
    return found

  @property
  def _artifact_bytes(self) -> int | None:
    if self.what == "artifact":
      return self.path.stat().st_size
    return self.stage.artifact_bytes if self.stage else None


def read(path: str | os.PathLike[str], *,
         progress: artifact.Progress | None = None) -> Inspection:
  """Says what is at a path, from its metadata (an artifact is read whole: it is small).

  Args:
    path: a stage's directory, a checkpoint (Orbax's own too), a workdir or an artifact.
    progress: of an artifact, as for `artifact.load`.

  Returns:
    The inspection.

  Raises:
    InspectError: there is nothing of the kind; the message says what it must be.

  Example:
    >>> import tempfile, jax.numpy as jnp
    >>> import compress_jax as cj
    >>> path = tempfile.mkdtemp() + "/step"
    >>> cj.checkpoint.save(path, cj.prune.magnitude({"w": jnp.arange(4.0).reshape(2, 2)}, 0.5))
    >>> found = read(path)
    >>> found.what, found.leaves[0].kind, found.totals["sparsity"]
    ('checkpoint', 'Masked', 0.5)
  """
  path = Path(os.path.abspath(path))  # without following links: names are shown
  # By its own name, also where it lies beside that for a moment.
  return replacing.steadily(path, lambda _: _read(path, progress))


def _read(path: Path, progress: artifact.Progress | None) -> Inspection:
  """Returns what is at a path by what is in it."""
  if not replacing.current(path).exists():
    raise InspectError(f"{path}: no such file or directory; it must be {KINDS}")
  if path.is_file():
    return _artifact(path, progress)
  if is_stage(path):
    return _stage(_lineage(path))
  if (replacing.current(path) / "manifest.json").is_file():
    return _checkpoint(path)
  if (path / "stages").is_dir():
    return _workdir(path)
  if orbax_arrays.looks_like(path):
    return _bare(path)
  steps = _steps(path)
  if steps:  # the root of a CheckpointManager: the latest step counts
    return dataclasses.replace(_bare(steps[-1]), metadata={
        "steps": [step.name for step in steps]})
  raise InspectError(f"{path}: is none of these: {KINDS}")


def _steps(root: Path) -> list[Path]:
  """Returns an Orbax CheckpointManager's steps, the earliest first."""
  numbered: dict[int, Path] = {}
  for path in root.iterdir():
    number = re.search(r"\d+$", path.name)
    if number and orbax_arrays.looks_like(path):
      numbered[int(number[0])] = path
  return [numbered[number] for number in sorted(numbered)]


def _lineage(directory: Path) -> tuple[Stage, ...]:
  return ancestors(read_stage(directory)) if is_stage(directory) else ()


def _artifact(path: Path, progress: artifact.Progress | None) -> Inspection:
  made = Inspection(path=path, what="artifact", lineage=_lineage(path.parent))
  try:
    params, metadata = _loaded_artifact(path, progress)
  except InspectError as error:
    with path.open("rb") as file:
      if file.read(3) != MAGIC:
        raise
    # It was one once: damaged, and not a wrong path.
    return dataclasses.replace(made, failures=(str(error).removesuffix(_HINT),))
  return measured(dataclasses.replace(made, metadata=metadata), params)


def _loaded_artifact(path: Path, progress: artifact.Progress | None = None
                     ) -> tuple[Any, dict[str, Any]]:
  try:
    return artifact.load(path, progress=progress)
  except artifact.ArtifactError as error:
    raise InspectError(f"{error}{_HINT}") from None


def _stage(lineage: tuple[Stage, ...]) -> Inspection:
  stage = lineage[-1]
  made = Inspection(path=stage.directory, what="stage", lineage=lineage, failures=stage.problems)
  if stage.metrics is None and not checkpoint.exists(stage.directory / "checkpoint"):
    return made  # it has not come so far yet
  return _with_manifest(made, stage.directory / "checkpoint")


def _checkpoint(path: Path) -> Inspection:
  made = Inspection(path=path, what="checkpoint", lineage=_lineage(path.parent))
  made = _with_manifest(made, path)
  if not made.leaves and made.failures and not (path / "arrays").exists():
    raise InspectError(made.failures[0])
  return made


def _with_manifest(made: Inspection, path: Path) -> Inspection:
  try:
    known, damaged = checkpoint.overview(path)
    if "summary" in known:
      leaves = tuple(map(leaf_summary.from_json, known["summary"]))
    else:  # an older version's
      leaves = tuple(leaf_summary.outline(known["structure"]))
  except (checkpoint.CheckpointError, TypeError, ValueError, AttributeError) as error:
    return dataclasses.replace(made, failures=(*made.failures, str(error)))
  return dataclasses.replace(
      made, leaves=leaves, metadata=known["metadata"],
      failures=(*made.failures, *damaged))


def _workdir(path: Path) -> Inspection:
  directories = sorted((path / "stages").iterdir())
  # Each stage is read once, and is an ancestor of many.
  known = {one.name: read_stage(one) for one in directories if is_stage(one)}
  stages, failures = [], []
  for _, stage in depth_first(known.values()):
    stages.append(_stage(ancestors(stage, known)))
    failures += stages[-1].failures
  return Inspection(path=path, what="workdir", stages=tuple(stages), failures=tuple(failures))


def _bare(path: Path) -> Inspection:
  try:
    structure, _ = describe(jax.tree.map(_hollow, orbax_arrays.shapes(path)))
  except ValueError as error:
    raise InspectError(f"{path}: an Orbax checkpoint that cannot be read ({error})") from None
  return Inspection(path=path, what="orbax", leaves=tuple(leaf_summary.outline(structure)))


def _hollow(entry: Any) -> Any:
  """Returns an array of that shape and dtype that takes no memory."""
  # A plain number has neither.
  dtype, shape = getattr(entry, "dtype", "int64"), getattr(entry, "shape", ())
  return np.broadcast_to(np.zeros((), dtype), shape)  # one element, seen from everywhere


def tree_of(found: Inspection) -> Any:
  """Reads the parameter tree.

  Args:
    found: from `read`; no workdir.

  Returns:
    The tree, with its weights.

  Raises:
    InspectError: it cannot be read.
  """
  try:
    if found.what == "artifact":
      return _loaded_artifact(found.path)[0]
    if found.what == "orbax":
      return _bare_tree(found.path)
    return checkpoint.load(_arrays_of(found))[0]
  except ValueError as error:
    raise InspectError(str(error)) from None


def _bare_tree(path: Path) -> Any:
  try:
    return orbax_arrays.load(path)
  except ValueError as error:
    raise InspectError(f"{path}: cannot be read ({error})") from None


def parent(found: Inspection) -> Inspection | None:
  """Returns the stage before the one that this is, or lies in.

  Args:
    found: from `read`.

  Returns:
    Its inspection; None where there is none.
  """
  return _stage(found.lineage[:-1]) if len(found.lineage) > 1 else None


def _arrays_of(found: Inspection) -> Path:
  return found.path / "checkpoint" if found.what == "stage" else found.path


def measured(found: Inspection, params: Any) -> Inspection:
  """Returns the inspection with all that the weights tell, sizes by gzip too.

  Args:
    found: from `read`.
    params: its tree, from `tree_of`.

  Returns:
    The inspection with `leaves` complete, and a failure for each that is too large to be measured.
  """
  large = [f"{path}: {leaf_summary.kind(x)} of shape {tuple(x.shape)} was not measured: far more "
           "than its arrays could fill" for path, x in containers.measurable(params)
           if any(map(leaf_summary.too_large, parts_of(x).values()))]
  return dataclasses.replace(found, gzip_bytes=None if large else _gzip_bytes(params),
                             leaves=tuple(leaf_summary.summarize(params, gzip=True)),
                             failures=(*found.failures, *large))


def _gzip_bytes(params: Any) -> int | None:
  """Returns what all arrays take together, by the convention of `cj.size`."""
  try:
    return payloads.gzip_bytes(payloads.payloads(containers.frozen(params)))
  except ValueError:
    return None  # a stack of leaves is not frozen as one


def check(found: Inspection) -> Inspection:
  """Reads every array and notes each that is not as it was saved.

  Args:
    found: from `read`.

  Returns:
    The inspection with `failures` complete.
  """
  if found.what == "workdir":
    stages = tuple(map(check, found.stages))
    failures = []
    for stage in stages:
      failures += [f"{stage.path.name}: {failure}" for failure in stage.failures]
    return dataclasses.replace(found, stages=stages, failures=tuple(failures))
  return dataclasses.replace(found, failures=tuple(_failures(found)))


def _failures(found: Inspection) -> list[str]:
  if found.what == "orbax":
    return _unread(found.path)
  problems = []
  if found.what == "stage" and found.stage:
    problems += found.stage.problems
    problems += [line for line in stage_files.changed(found.path) if line not in problems]
    problems += _artifact_problems(found.stage)
  if found.what == "artifact":
    return problems  # an artifact is checked whenever it is read
  if not found.leaves and not found.failures:
    return problems  # a stage that has no checkpoint yet
  try:
    return problems + checkpoint.check(_arrays_of(found))
  except checkpoint.CheckpointError as error:
    return [*problems, str(error)]


def _unread(path: Path) -> list[str]:
  try:
    unread = orbax_arrays.load_each(path)[1]
  except ValueError as error:
    return [f"{path}: {error}"]
  return [f"{name} cannot be read ({why})" for name, why in unread.items()]


def _artifact_problems(stage: Stage) -> list[str]:
  if stage.artifact is None:
    # Version 0.3 kept no list of files; its metrics tell that there was one.
    missing = "artifact_bytes" in stage.numbers and not (
        stage.directory / stage_files.COMPLETE).exists()
    return [f"{stage.directory / 'model.cjx'}: is missing"] if missing else []
  try:
    artifact.load(stage.artifact)
  except artifact.ArtifactError as error:
    return [str(error)]
  return []

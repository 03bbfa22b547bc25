"""From a path to what is there, without reading weights."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compress_jax import names
from compress_jax.inspect import orbax
from compress_jax.inspect.lineage import Stage, ancestors, depth_first, is_stage, read_stage
from compress_jax.io import (
  artifact,
  checkpoint,
  containers,
  leaf_summary,
  manifest,
  orbax_arrays,
  payloads,
  replacing,
)
from compress_jax.io.container import MAGIC, OtherVersionError
from compress_jax.io.leaf_summary import LeafSummary
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
    unread: what another version wrote, and this one cannot read.
    unmeasured: leaves that stand for too much to be counted; they need not be damaged.
    gzip_bytes: of all arrays together, where the weights were read.
  """

  path: Path
  what: str
  leaves: tuple[LeafSummary, ...] = ()
  metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  lineage: tuple[Stage, ...] = ()
  stages: tuple[Inspection, ...] = ()
  failures: tuple[str, ...] = ()
  unread: tuple[str, ...] = ()
  unmeasured: tuple[str, ...] = ()
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
    nonfinite = sum(leaf.nonfinite or 0 for leaf in self.leaves)
    if nonfinite:
      found["nonfinite"] = nonfinite
    for field in ("dense_bytes", "nonzero_bytes", "packed_bytes", "gzip_bytes"):
      found[field] = leaf_summary.total([getattr(leaf, field) for leaf in self.leaves])
    numbers = self.numbers
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
  def numbers(self) -> Mapping[str, float]:
    """What a stage measured of this; nothing where this is not the stage's own result."""
    return self.stage.numbers if self.stage and self._is_result_of(self.stage) else {}

  def _is_result_of(self, stage: Stage) -> bool:
    # Other files and checkpoints may lie in a stage's folder.
    return self.path in (stage.directory, stage.directory / "checkpoint", stage.artifact)

  @property
  def _artifact_bytes(self) -> int | None:
    if self.what == "artifact":
      return self.path.stat().st_size
    return self.stage.artifact_bytes if self.stage and self._is_result_of(self.stage) else None


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
  if orbax.is_unfinished(path):
    raise InspectError(f"{path}: an Orbax checkpoint whose writing was interrupted")
  if orbax_arrays.looks_like(path):
    return _bare(path)
  if orbax_arrays.looks_like(path / "arrays"):
    return _checkpoint(path)  # one that lost its manifest
  return _latest(path)


def _latest(path: Path) -> Inspection:
  """Returns the last of the steps in a CheckpointManager's folder."""
  checkpoints = orbax.inside(path)
  steps = orbax.steps(checkpoints)
  if steps:
    latest = _bare(steps[-1])
    return dataclasses.replace(latest, metadata={
        **latest.metadata, "steps": [step.name for step in steps]})
  if checkpoints:
    some = ", ".join(one.name for one in checkpoints[:8])
    raise InspectError(f"{path}: has checkpoints in it; must be one of them: {some}")
  if any(map(orbax.is_unfinished, path.iterdir())):
    raise InspectError(f"{path}: holds nothing but what an interrupted save left")
  raise InspectError(f"{path}: is none of these: {KINDS}")


def _lineage(directory: Path) -> tuple[Stage, ...]:
  return ancestors(read_stage(directory)) if is_stage(directory) else ()


def _artifact(path: Path, progress: artifact.Progress | None) -> Inspection:
  made = Inspection(path=path, what="artifact", lineage=_lineage(path.parent))
  try:
    params, metadata = _loaded_artifact(path, progress)
  except InspectError as error:
    with path.open("rb") as file:
      if file.read(3) != MAGIC or isinstance(error.__cause__, OtherVersionError):
        raise
    # It was one once: damaged, and not a wrong path.
    return dataclasses.replace(made, failures=(str(error).removesuffix(_HINT),))
  return measured(dataclasses.replace(made, metadata=metadata), params)


def _loaded_artifact(path: Path, progress: artifact.Progress | None = None
                     ) -> tuple[Any, dict[str, Any]]:
  try:
    return artifact.load(path, progress=progress)
  except OtherVersionError as error:
    raise InspectError(str(error)) from error
  except artifact.ArtifactError as error:
    raise InspectError(f"{error}{_HINT}") from None


def _stage(lineage: tuple[Stage, ...]) -> Inspection:
  stage = lineage[-1]
  made = Inspection(path=stage.directory, what="stage", lineage=lineage, failures=stage.problems,
                    unread=(stage.other_version,) if stage.other_version else ())
  if stage.metrics is None and not checkpoint.exists(stage.directory / "checkpoint"):
    return made  # it has not come so far yet
  return _with_manifest(made, stage.directory / "checkpoint")


def _checkpoint(path: Path) -> Inspection:
  made = Inspection(path=path, what="checkpoint", lineage=_lineage(path.parent))
  made = _with_manifest(made, path)
  if made.unread:
    raise InspectError(made.unread[0])
  if not made.leaves and made.failures and not (replacing.current(path) / "arrays").exists():
    raise InspectError(made.failures[0])
  return made


def _with_manifest(made: Inspection, path: Path) -> Inspection:
  try:
    known, damaged = checkpoint.overview(path)
    if "summary" in known:
      leaves = tuple(map(leaf_summary.from_json, known["summary"]))
    else:  # an older version's
      leaves = tuple(leaf_summary.outline(known["structure"]))
  except manifest.OtherVersionError as error:
    return dataclasses.replace(made, unread=(*made.unread, str(error)))
  except (checkpoint.CheckpointError, TypeError, ValueError, AttributeError,
          RecursionError) as error:
    return dataclasses.replace(made, failures=(*made.failures, str(error)))
  return dataclasses.replace(
      made, leaves=leaves, metadata=known["metadata"],
      failures=(*made.failures, *damaged))


def _workdir(path: Path) -> Inspection:
  directories = sorted((path / "stages").iterdir())
  # Each stage is read once, and is an ancestor of many.
  known = {one.name: read_stage(one) for one in directories if is_stage(one)}
  stages: list[Inspection] = []
  for _, stage in depth_first(known.values()):
    stages.append(_stage(ancestors(stage, known)))
  return Inspection(path=path, what="workdir", stages=tuple(stages),
                    failures=tuple(line for one in stages for line in one.failures),
                    unread=tuple(line for one in stages for line in one.unread))


def _bare(path: Path) -> Inspection:
  try:
    leaves = orbax.outline(path)
  except ValueError as error:
    raise InspectError(f"{path}: an Orbax checkpoint that cannot be read ({error})") from None
  others = orbax.others(path)
  metadata = {"without_arrays": others} if others else {}
  return Inspection(path=path, what="orbax", leaves=leaves, metadata=metadata)


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
      return orbax.tree(found.path)
    return checkpoint.load(arrays_of(found))[0]
  except ValueError as error:
    front = f"{found.path}: cannot be read ({error})"
    raise InspectError(front if found.what == "orbax" else str(error)) from None


def parent(found: Inspection) -> Inspection | None:
  """Returns the stage before the one that this is, or lies in.

  Args:
    found: from `read`.

  Returns:
    Its inspection; None where there is none.
  """
  return _stage(found.lineage[:-1]) if len(found.lineage) > 1 else None


def arrays_of(found: Inspection) -> Path:
  """Returns where the checkpoint of an inspection is.

  Args:
    found: of a checkpoint or a stage.
  """
  return found.path / "checkpoint" if found.what == "stage" else found.path


def measured(found: Inspection, params: Any, *, gzip: bool = True) -> Inspection:
  """Returns the inspection with all that the weights tell.

  Args:
    found: from `read`.
    params: its tree, from `tree_of`.
    gzip: whether sizes by gzip are taken, too, which takes longest.

  Returns:
    The inspection with `leaves` complete, and `unmeasured`.
  """
  large = [f"{path}: {leaf_summary.kind(x)} of shape {tuple(x.shape)} stands for far more than its "
           "arrays hold" for path, x in containers.measurable(params)
           if any(map(leaf_summary.too_large, parts_of(x).values()))]
  return dataclasses.replace(found, gzip_bytes=_gzip_bytes(params) if gzip and not large else None,
                             leaves=tuple(leaf_summary.summarize(params, gzip=gzip)),
                             unmeasured=tuple(large))


def _gzip_bytes(params: Any) -> int | None:
  """Returns what all arrays take together, by the convention of `cj.size`."""
  try:
    return payloads.gzip_bytes(payloads.payloads(containers.frozen(params)))
  except ValueError:
    return None  # a stack of leaves is not frozen as one

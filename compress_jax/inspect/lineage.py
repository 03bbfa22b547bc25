"""Stages as their directories tell of them, and where each comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compress_jax.io import stage_files


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
  """One stage, from its JSON files.

  Attributes:
    directory: where it is; its name is the stage's identity.
    name: short, for people.
    parent: the name of the directory that it starts from, or None.
    spec: what its result depends on.
    data: fingerprint of the data.
    version: of the library that ran it.
    metrics: what it measured; None until it is complete, or where that cannot be read.
    artifact: its deployable file, or None; others may lie beside it.
    failed: why it failed, "" where it did not, or is complete now.
    other_version: what is said of a stage that another version marked complete, else "".
    problems: what is wrong with its JSON files, and with the sizes of the others.
  """

  directory: Path
  name: str
  parent: str | None = None
  spec: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  data: str = ""
  version: str = ""
  metrics: Mapping[str, Any] | None = None
  artifact: Path | None = None
  failed: str = ""
  other_version: str = ""
  problems: tuple[str, ...] = ()

  @property
  def id(self) -> str:
    """The name of its directory."""
    return self.directory.name

  @property
  def numbers(self) -> dict[str, float]:
    """Those of its metrics that are single numbers."""
    return {name: value for name, value in (self.metrics or {}).items()
            if isinstance(value, int | float) and not isinstance(value, bool)}

  @property
  def seed(self) -> Any:
    """The seed in its specification, or None."""
    return self.spec.get("seed") if isinstance(self.spec, Mapping) else None

  @property
  def artifact_bytes(self) -> int | None:
    """The size of its deployable file."""
    return self.artifact.stat().st_size if self.artifact else None


def is_stage(directory: Path) -> bool:
  """Tells whether a directory is a stage's.

  Args:
    directory: any path.

  Returns:
    True where there is a `stage.json`, or what marks a stage complete: a stage that lost the
    one is damaged, and still a stage.
  """
  return any((directory / name).is_file() for name in ("stage.json", stage_files.COMPLETE))


def read_stage(directory: Path) -> Stage:
  """Reads a stage's JSON files; what cannot be read is told in `problems`.

  Args:
    directory: a stage's.

  Returns:
    The stage.

  Example:
    >>> import tempfile, numpy as np
    >>> from compress_jax import stages
    >>> made = stages.run(stages.Stage(name="teacher", spec={"epochs": 1}), tempfile.mkdtemp(),
    ...                   lambda directory: ({"w": np.ones(1)}, {"accuracy": 0.5}))
    >>> stage = read_stage(made.directory)
    >>> stage.name, stage.spec, stage.metrics["accuracy"]
    ('teacher', {'epochs': 1}, 0.5)
  """
  problems: list[str] = []
  known = _json(directory / "stage.json", problems) or {}
  metrics, failed, other_version = None, "", stage_files.other_version(directory)
  if stage_files.is_complete(directory):
    metrics = _json(directory / "metrics.json", problems)
  else:
    failed = _why_failed(directory)
  if not other_version:
    _add_changed(problems, stage_files.changed(directory, contents=False))
  return Stage(directory=directory, name=_text(known, "name") or directory.name,
               parent=_text(known, "parent") or None, spec=known.get("spec") or {},
               data=_text(known, "data"), version=_text(known, "version"), metrics=metrics,
               artifact=_artifact(directory), failed=failed, other_version=other_version,
               problems=tuple(problems))


def _artifact(directory: Path) -> Path | None:
  """Returns a stage's deployable file; None where several might be it."""
  artifacts = list(directory.glob("*.cjx"))
  own = directory / "model.cjx"
  if own in artifacts:
    return own
  return artifacts[0] if len(artifacts) == 1 else None


def _why_failed(directory: Path) -> str:
  """Returns the reason that a study left in a stage that failed."""
  found = _json(directory / "failed.json", []) or {}
  return _text(found, "reason")


def _add_changed(problems: list[str], changed: Iterable[str]) -> None:
  """Adds what is wrong with files that are not named yet."""
  named = {problem.partition(": ")[0] for problem in problems}
  problems += [problem for problem in changed if problem.partition(": ")[0] not in named]


def _text(known: Mapping[str, Any], key: str) -> str:
  # A root's parent is null, and an old or damaged file may hold anything.
  return str(known.get(key) or "")


def _json(file: Path, problems: list[str]) -> dict[str, Any] | None:
  try:
    found = json.loads(file.read_text())
  except (OSError, ValueError, RecursionError) as error:
    problems.append(f"{file}: cannot be read, maybe cut short ({error})")
    return None
  if isinstance(found, dict):
    return found
  problems.append(f"{file}: holds a {type(found).__name__}, not an object")
  return None


def ancestors(stage: Stage, known: Mapping[str, Stage] | None = None) -> tuple[Stage, ...]:
  """Returns the stages from the root to this one, as far as their directories are there.

  Args:
    stage: the last one.
    known: {id: stage} of those that are read already; None reads them.

  Returns:
    The stages, the one that was given last.
  """
  chain = [stage]
  seen = {stage.id}
  # Damaged files may name stages in a circle.
  while (name := chain[0].parent) and name not in seen:
    directory = stage.directory.parent / name
    if known is None and is_stage(directory):
      found = read_stage(directory)
    elif known and name in known:
      found = known[name]
    else:
      break
    chain.insert(0, found)
    seen.add(found.id)
  return tuple(chain)


def depth_first(stages: Iterable[Stage]) -> list[tuple[int, Stage]]:
  """Returns every stage with its depth, each after its parent.

  Args:
    stages: any; one whose parent is not among them is a root.

  Returns:
    (depth, stage); a root's depth is 0.

  Example:
    >>> made = [Stage(directory=Path(n), name=n, parent=p)
    ...         for n, p in (("b", "a"), ("c", "b"), ("a", None))]
    >>> [(depth, stage.name) for depth, stage in depth_first(made)]
    [(0, 'a'), (1, 'b'), (2, 'c')]
  """
  by_id = {stage.id: stage for stage in stages}
  children: dict[str | None, list[Stage]] = {}
  for stage in by_id.values():
    parent = stage.parent if stage.parent in by_id else None
    children.setdefault(parent, []).append(stage)
  found: dict[str, tuple[int, Stage]] = {}
  # Damaged files may name stages in a circle; those have no root, and any one of them is as
  # good a start as another.
  for root in [*children.get(None, []), *by_id.values()]:
    todo = [(0, root)]
    while todo:
      depth, stage = todo.pop()
      if stage.id not in found:
        found[stage.id] = (depth, stage)
        todo += [(depth + 1, child) for child in reversed(children.get(stage.id, []))]
  return list(found.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Branch:
  """A stage, and the branches that grow from it."""

  stage: Stage
  children: list[Branch] = dataclasses.field(default_factory=list)


def nested(stages: Iterable[Stage]) -> list[Branch]:
  """Returns the roots among some stages, with all that grows from them.

  Args:
    stages: any; one whose parent is not among them is a root.

  Returns:
    One branch per root.

  Example:
    >>> made = [Stage(directory=Path(n), name=n, parent=p) for n, p in (("a", None), ("b", "a"))]
    >>> root = nested(made)[0]
    >>> root.stage.name, [branch.stage.name for branch in root.children]
    ('a', ['b'])
  """
  roots: list[Branch] = []
  path: list[Branch] = []  # from a root to the last stage
  for depth, stage in depth_first(stages):
    branch = Branch(stage=stage)
    siblings = path[depth - 1].children if depth > 0 else roots
    siblings.append(branch)
    path = [*path[:depth], branch]
  return roots

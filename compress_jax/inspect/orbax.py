"""Checkpoints that Orbax wrote without us: a manager's steps, the items of one, their trees."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from compress_jax.io import leaf_summary, orbax_arrays
from compress_jax.io.leaf_summary import LeafSummary
from compress_jax.io.structure import describe

_UNFINISHED = ".orbax-checkpoint-tmp"  # in the name of a folder that Orbax has not completed
_STEP = re.compile(r"(|.*_)(\d+)")


def is_unfinished(path: Path) -> bool:
  """Returns whether Orbax was interrupted while it wrote a directory.

  Args:
    path: the directory.

  Example:
    >>> is_unfinished(Path("run/3.orbax-checkpoint-tmp-17"))
    True
  """
  return _UNFINISHED in path.name


def inside(root: Path) -> list[Path]:
  """Returns the complete checkpoints in a directory, by name.

  Args:
    root: the directory.
  """
  return sorted(path for path in root.iterdir()
                if orbax_arrays.looks_like(path) and not is_unfinished(path))


def steps(checkpoints: list[Path]) -> list[Path]:
  """Returns those checkpoints that a CheckpointManager numbered, the earliest first.

  Args:
    checkpoints: what is in one directory.

  Returns:
    The steps; nothing where names begin differently, so that no manager wrote them.

  Example:
    >>> [path.name for path in steps([Path("step_10"), Path("step_9"), Path("best")])]
    ['step_9', 'step_10']
    >>> steps([Path("resnet18"), Path("vgg16")]), steps([Path("a_1"), Path("b_2")])
    ([], [])
  """
  found = [(match[1], int(match[2]), path) for path in checkpoints
           if (match := _STEP.fullmatch(path.name))]
  if len({prefix for prefix, _, _ in found}) > 1:
    return []
  return [path for _, _, path in sorted(found)]


def parts(path: Path) -> dict[str, tuple[Path, str | None]]:
  """Returns the trees of a checkpoint.

  Args:
    path: a checkpoint, or the folder of one of its items.

  Returns:
    {name in front of the tree's paths: (checkpoint, item)}; "" alone where there is one tree.
  """
  items = orbax_arrays.items(path)
  if len(items) > 1:
    return {item: (path, item) for item in items}
  if items:
    return {"": (path, items[0])}
  # Orbax takes an item's own folder for no checkpoint.
  if (path / orbax_arrays.WHOLE).is_file() or not (path.parent / orbax_arrays.WHOLE).is_file():
    return {"": (path, None)}
  return {"": (path.parent, path.name)}


def others(path: Path) -> list[str]:
  """Returns the names of the items of a checkpoint that are no trees of arrays.

  Args:
    path: the checkpoint.
  """
  items = orbax_arrays.items(path)
  # A tree that is alone has folders of its own.
  return sorted(part.name for part in path.iterdir()
                if part.is_dir() and part.name not in items) if items else []


def said(metadata: Mapping[str, Any]) -> str:
  """Returns in words what there is beside the arrays that are shown, or "".

  Args:
    metadata: of an inspection: "steps", and "without_arrays" (`others`).

  Example:
    >>> said({"steps": ["9", "10"]})
    '; the last of the steps 9, 10'
  """
  sentence = ""
  if "steps" in metadata:
    sentence += f"; the last of the steps {', '.join(metadata['steps'])}"
  if "without_arrays" in metadata:
    sentence += f"; not shown, for they are no arrays: {', '.join(metadata['without_arrays'])}"
  return sentence


def outline(path: Path) -> tuple[LeafSummary, ...]:
  """Describes the arrays of a checkpoint, of which none is read.

  Args:
    path: the checkpoint, or an item's folder.

  Returns:
    One description for each.

  Raises:
    ValueError: Orbax cannot read it.
  """
  tree = _together({name: orbax_arrays.shapes(*part) for name, part in parts(path).items()})
  structure, _ = describe(jax.tree.map(_hollow, tree))
  return tuple(leaf_summary.outline(structure))


def _together(trees: dict[str, Any]) -> Any:
  return trees.get("", trees)


def _hollow(entry: Any) -> Any:
  """Returns an array of that shape and dtype that takes no memory; None of a text."""
  if isinstance(entry, str):
    return None
  if not hasattr(entry, "shape"):
    return np.asarray(entry)  # Orbax tells a number's type by a zero
  # One element, seen from everywhere.
  return np.broadcast_to(np.zeros((), entry.dtype), entry.shape)


def tree(path: Path) -> Any:
  """Reads the arrays of a checkpoint.

  Args:
    path: the checkpoint, or an item's folder.

  Returns:
    The tree; of several items, {item: tree}.

  Raises:
    ValueError: it cannot be read.
  """
  return _together({name: orbax_arrays.load(*part) for name, part in parts(path).items()})


def unread(path: Path) -> Iterator[str]:
  """Reads every array of a checkpoint.

  Args:
    path: the checkpoint, or an item's folder.

  Yields:
    One line for each that cannot be read.
  """
  for name, part in parts(path).items():
    try:
      orbax_arrays.load(*part)
      continue
    except ValueError:
      pass
    # One by one takes a hundred times as long, but finds which.
    try:
      failed = orbax_arrays.load_each(*part)[1]
    except ValueError as error:
      yield f"{path / name}: {error}"
      continue
    front = f"{name}/" if name else ""
    yield from (f"{front}{array} cannot be read ({why})" for array, why in failed.items())

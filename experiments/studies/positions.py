"""Where a stage is, as its files tell, in words for people."""

from __future__ import annotations

from pathlib import Path


def stopped(name: str, directory: Path) -> str:
  """Returns where a stage goes on that is stopped while it does not train.

  Args:
    name: the stage's.
    directory: the stage's.
  """
  if _has_epochs(directory):
    return f"stage {name}, after its training"
  return f"stage {name}, epoch 1"


def begins(directory: Path) -> str:
  """Returns how a stage begins; training says at which epoch it resumes, if one is kept.

  Args:
    directory: the stage's.
  """
  if not (directory / "log.txt").exists():
    return "starts"
  return "resumes" if _has_epochs(directory) else "resumes at its beginning"


def _has_epochs(directory: Path) -> bool:
  """Returns whether a stage keeps the state of any training."""
  return any(directory.glob("work/**/epoch-*"))

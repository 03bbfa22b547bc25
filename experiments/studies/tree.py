"""The tree of a study's stages as it stands: complete, running, failed, skipped, waiting."""

from __future__ import annotations

import collections
import dataclasses
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.live import Live
from rich.text import Text

from compress_jax.io import leases, stage_files, stages
from experiments import faults
from experiments.studies import failures
from experiments.studies.base import Study
from experiments.training.progress import say

STATES = ("complete", "running", "ready", "waiting", "failed", "skipped")
_ENDED = ("complete", "failed", "skipped")
_EVERY = 2.0  # seconds between two looks of `watch`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Node:
  """A stage in the tree.

  Attributes:
    name: the stage's.
    seed: of its study.
    depth: how many stages there are before it.
    state: one of `STATES`.
    text: what more is known: the time it took, who runs it, why it failed.
  """

  name: str
  seed: int
  depth: int
  state: str
  text: str


def nodes(study: Study) -> list[Node]:
  """Returns a study's stages, each behind the one that it starts from; nothing runs.

  Args:
    study: its manner looks only.
  """
  found: dict[str, Node] = {}
  for name in known(study):
    for each in _lineage(study, name):
      if each not in found:
        found[each] = _node(study, each, found)
  return _in_order(study, found)


def known(study: Study) -> list[str]:
  """Returns the stages that are known; some studies know more once others are complete.

  Args:
    study: its manner looks only.
  """
  try:
    names = list(study.names)
  except (faults.Busy, faults.StageFailed) as error:
    names = ["base", error.stage]
  return [*names, *study.more]


def _lineage(study: Study, name: str) -> list[str]:
  before = []
  for parent in study.needs(name):
    before += _lineage(study, parent)
  return [*before, name]


def _in_order(study: Study, found: dict[str, Node]) -> list[Node]:
  """Returns the nodes with children behind their parent, in the order in which they came."""
  children = collections.defaultdict(list)
  for name in found:
    children[study.parent(name)].append(name)

  def below(parent: str | None) -> list[Node]:
    made = []
    for name in children[parent]:
      made += [found[name], *below(name)]
    return made

  return below(None)


def _node(study: Study, name: str, found: dict[str, Node]) -> Node:
  try:
    stage = study.stage(name)
  except (faults.Busy, faults.StageFailed) as error:
    # What it is depends on what another stage finds.
    return Node(name=name, seed=study.seed, depth=0, state="waiting", text=f"for {error.stage}")
  state, text = _state(study, name, stage.directory(study.workdir), found)
  return Node(name=name, seed=study.seed, depth=len(stage.lineage()) - 1, state=state, text=text)


def _state(study: Study, name: str, directory: Path, found: dict[str, Node]) -> tuple[str, str]:
  """Returns a stage's state, and what more is known; those it starts from are in `found`."""
  if stage_files.is_complete(directory):
    return "complete", _outcome(directory)
  reason = failures.reason(directory)
  if reason:
    return "failed", reason
  holder = leases.holder(directory / stages.LEASE)
  if holder is not None and holder.alive():
    return "running", f"{holder.owner.get('host')}:{holder.owner.get('pid')}  {_last(directory)}"
  for parent in study.needs(name):
    before = found[parent]
    if before.state in ("failed", "skipped"):
      return "skipped", f"because {before.text.partition('because ')[2] or f'{parent} failed'}"
    if before.state != "complete":
      return "waiting", f"for {parent}"
  return "ready", _last(directory)


def _outcome(directory: Path) -> str:
  """Returns what a complete stage took and reached."""
  try:
    metrics = json.loads((directory / "metrics.json").read_text())
  except (OSError, ValueError):
    return "its metrics cannot be read"
  text = f"{metrics.get('seconds', 0):,.0f} s"
  if "test_accuracy" in metrics:
    text += f", test {100 * metrics['test_accuracy']:.2f} %"
  return text


def _last(directory: Path) -> str:
  """Returns the last line of a stage's log, without its time and label."""
  try:
    line = (directory / "log.txt").read_text().splitlines()[-1]
  except (OSError, IndexError):
    return ""
  return line.partition(": ")[2]


def text(found: Sequence[Node], width: int) -> str:
  """Returns the tree as text, one line per stage and one with how many are in which state.

  Args:
    found: the stages of all seeds.
    width: columns; lines are cut there.

  Example:
    >>> print(text([Node(name="base", seed=0, depth=0, state="complete", text="5 s"),
    ...             Node(name="imp", seed=0, depth=1, state="ready", text="")], 60))
    base    complete  5 s
      imp   ready
    2 stages: 1 complete, 1 ready
  """
  several = len({node.seed for node in found}) > 1
  labels = [f"{'  ' * node.depth}{_label(node, several)}" for node in found]
  column = min(width // 2, max(map(len, labels), default=0) + 2)
  lines = []
  for label, node in zip(labels, found, strict=True):
    line = f"{_cut(label, column - 1):<{column}}{node.state:<10}{node.text}"
    lines.append(_cut(line.rstrip(), width))
  return "\n".join([*lines, _summary(found)])


def _label(node: Node, several: bool) -> str:
  # A seed is said once, where its tree begins.
  return f"{node.name} (seed {node.seed})" if several and not node.depth else node.name


def _cut(line: str, width: int) -> str:
  return line if len(line) <= width else f"{line[:width - 1]}…"


def _summary(found: Sequence[Node]) -> str:
  counts = collections.Counter(node.state for node in found)
  parts = [f"{counts[state]} {state}" for state in STATES if counts[state]]
  return f"{len(found)} stage{'s' * (len(found) != 1)}: {', '.join(parts)}"


def show(studies: Sequence[Study], *, once: bool) -> None:
  """Prints the tree once, or shows it again and again until no stage is left to run.

  Args:
    studies: one per seed; their manner looks only.
    once: whether to print it and return.
  """
  width = shutil.get_terminal_size((120, 40)).columns
  if once:
    say(text(of_all(studies), width))
    return
  with Live(auto_refresh=False) as live:
    while True:
      found = of_all(studies)
      live.update(Text(text(found, width)), refresh=True)
      if all(node.state in _ENDED for node in found):
        return
      time.sleep(_EVERY)


def of_all(studies: Iterable[Study]) -> list[Node]:
  """Returns the stages of all seeds.

  Args:
    studies: one per seed; their manner looks only.
  """
  found = []
  for study in studies:
    # What was complete at the last look is asked for again.
    study.done.clear()
    found += nodes(study)
  return found

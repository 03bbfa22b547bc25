"""`report.html`: a study on one page that needs no network, and one page per artifact beside it."""

from __future__ import annotations

import base64
import dataclasses
import math
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from compress_jax import inspect
from compress_jax.inspect import charts, columns, page, view
from compress_jax.inspect.lineage import Stage, ancestors, nested, read_stage
from compress_jax.io import files
from experiments.reporting import about, blocks, over_seeds
from experiments.training.progress import say

Row = Mapping[str, Any]
TEMPLATES = Path(__file__).parent / "templates"
_COLUMNS = ("combo", "seed", "test_accuracy", "val_accuracy", "params", "nonzero_params",
            "sparsity", "dense_bytes", "nonzero_bytes", "gzip_bytes", "artifact_bytes",
            "reduction", "seconds", "artifact")
_DRAWN = ("pareto.png",)  # which the page draws itself, with links
_LONGEST_BAR = 8  # em
_SILENT = 10  # seconds of writing pages without a word


def write(rows: Sequence[Row], workdir: Path, *, config: Mapping[str, Any],
          environment: Mapping[str, Any], texts: Sequence[str] = (),
          pictures: Sequence[str] = ()) -> None:
  """Writes `report.html`, and `inspect/<stage>.html` of every artifact that has none yet.

  Args:
    rows: of results.csv.
    workdir: the study's.
    config: the study's configuration.
    environment: what the results were made with.
    texts: the study's tables, Markdown.
    pictures: files in the workdir, PNG.

  Raises:
    ImportError: Jinja2, pygal or Pillow is not installed.
  """
  stages = _stages(rows, workdir)
  # First the pages, so that only those are linked that there are.
  _inspections(stages, workdir / "inspect")
  many = len({row["seed"] for row in rows}) > 1
  trained, untrained = _curves(stages, many)
  means = over_seeds.means(rows)
  found = about.about(config, [row["combo"] for row in rows])
  text = page.render(
      "report.html.j2", TEMPLATES, title=f"{found.title} – {workdir.name}", name=workdir.name,
      about=found, tables=[_part(part) for text in texts for part in blocks.parse(text)],
      pictures=[_picture(workdir / name) for name in pictures if name not in _DRAWN],
      models=_counted(len({row["combo"] for row in rows}), "model"),
      seeds=over_seeds.text(means), many=many,
      results=_table(rows, workdir), charts=_charts(means, _links_of_combos(rows, workdir)),
      trained=trained, untrained=untrained, **_tree(stages, workdir),
      environment={name: str(value) for name, value in environment.items()}, config=config)
  files.write(workdir / "report.html", text)


def _stages(rows: Sequence[Row], workdir: Path) -> list[Stage]:
  """Returns the stages that lead to the rows, each once."""
  found: dict[str, Stage] = {}
  for row in rows:
    end = read_stage((workdir / row["artifact"]).parent)
    found |= {stage.id: stage for stage in ancestors(end)}
  return list(found.values())


def address(stage: Stage) -> str:
  """Returns the link from one stage's inspection to another's.

  Args:
    stage: the other one.

  Returns:
    A relative address.
  """
  return urllib.parse.quote(f"{stage.id}.html")


def _inspection_of(name: str, workdir: Path) -> str | None:
  """Returns the link from the report to a stage's inspection, where there is one."""
  file = Path("inspect") / f"{name}.html"
  return urllib.parse.quote(file.as_posix()) if (workdir / file).exists() else None


def _links_of_combos(rows: Sequence[Row], workdir: Path) -> dict[str, str | None]:
  """Returns where each combination's point leads: to its artifact, if it is one only."""
  artifacts: dict[str, list[Path]] = {}
  for row in rows:
    artifacts.setdefault(row["combo"], []).append(Path(row["artifact"]))
  links: dict[str, str | None] = {}
  for combo, paths in artifacts.items():
    single = len(paths) == 1  # over several seeds a point is their mean
    links[combo] = _inspection_of(paths[0].parent.name, workdir) if single else None
  return links


def _table(rows: Sequence[Row], workdir: Path) -> page.Table:
  shown = []
  for row in rows:
    shown.append({**row, "sparsity": _sparsity(row), "artifact": Path(row["artifact"]).name,
                  "at": Path(row["artifact"])})
  fields = [f for f in columns.fields_of(shown, _COLUMNS) if f in _COLUMNS]

  def link(field: str, row: Row) -> str | None:
    if field == "combo":
      return _inspection_of(row["at"].parent.name, workdir)
    if field == "artifact":
      return urllib.parse.quote(row["at"].as_posix())
    return None

  return page.table("results", shown, fields, link=link)


def _part(part: blocks.Table | blocks.Text) -> dict[str, Any]:
  """Returns what the template shows of a part of a study's text."""
  if isinstance(part, blocks.Text):
    return {"text": part.text, "is_heading": part.heading}
  numbers = [part.holds_numbers(column) for column in range(len(part.heading))]
  return {"text": None, "columns": part.heading, "rows": part.rows, "numbers": numbers}


def _picture(file: Path) -> dict[str, str]:
  """Returns a picture as the template shows it: in the page, which fetches nothing."""
  data = base64.b64encode(file.read_bytes()).decode("ascii")
  return {"address": f"data:image/png;base64,{data}", "name": _spaced(file.stem)}


def _spaced(name: str) -> str:
  """Returns a file's name as a heading: "figure_3" and "figure3" become "Figure 3"."""
  return re.sub(r"(?<=[a-z])(?=\d)", " ", name.replace("_", " ")).capitalize()


def _sparsity(row: Row) -> float:
  return 1 - row["nonzero_params"] / max(1, row["params"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
  """A scatter chart of the report.

  Attributes:
    title: over it.
    drawing: SVG.
    less_is_better: whether the best are on its left.
  """

  title: str
  drawing: str
  less_is_better: bool = False


def _charts(means: Sequence[Row], links: Mapping[str, str | None]) -> list[Chart]:
  """Returns accuracy against what is saved, against size and against sparsity."""
  if len(means) < 2:
    return []  # a single point says no more than the table
  saved = [100 * row["reduction"] for row in means]
  kilobytes = [row["artifact_bytes"] / 1000 for row in means]
  zeros = [100 * _sparsity(row) for row in means]
  return [
      _chart("Pareto front: accuracy against percent saved", means, links, saved,
             "saved, % of the base model's dense bytes (file size)"),
      _chart("Accuracy against size", means, links, kilobytes,
             "deployable file, kB (logarithmic)", less_is_better=True),
      _chart("Accuracy against sparsity", means, links, zeros, "zeros among the parameters, %")]


def _chart(title: str, means: Sequence[Row], links: Mapping[str, str | None],
           values: Sequence[float], label: str, *, less_is_better: bool = False) -> Chart:
  accuracies = [100 * row["test_accuracy"] for row in means]
  gains = [-value for value in values] if less_is_better else values
  places = list(zip(gains, accuracies, strict=True))
  front = set(cj.search.front([(-gain, -accuracy) for gain, accuracy in places]))
  points = []
  for number, (row, value) in enumerate(zip(means, values, strict=True)):
    points.append(charts.Point(x=value, y=accuracies[number], name=row["combo"],
                               best=number in front, link=links.get(row["combo"])))
  # Sizes differ by orders of magnitude.
  drawing = charts.scatter(points, x_label=label, y_label="test accuracy, %", label=title,
                           log=less_is_better)
  return Chart(title=title, drawing=drawing, less_is_better=less_is_better)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curves:
  """How a stage trained.

  Attributes:
    title: its name, and how many epochs it took.
    accuracy: SVG, of training and validation.
    loss: SVG.
  """

  title: str
  accuracy: str
  loss: str


def _curves(stages: Sequence[Stage], many: bool) -> tuple[list[Curves], list[str]]:
  """Returns the curves of every stage that trained, and the names of the others."""
  trained, untrained = [], []
  for stage in stages:
    name = f"{stage.name}, seed {stage.spec.get('seed')}" if many else stage.name
    metrics = stage.metrics or {}
    epochs = history(metrics)
    if epochs:
      trained.append(_curves_of(name, epochs, len(metrics.get("rounds") or ())))
    else:
      untrained.append(name)
  return trained, untrained


def _curves_of(name: str, epochs: Sequence[Mapping[str, Any]], rounds: int) -> Curves:
  title = f"{name}: {_counted(len(epochs), 'epoch')}"
  if rounds:
    title += f" in {_counted(rounds, 'round')}"
  accuracy = [charts.Line(name="training", values=_values(epochs, "accuracy")),
              charts.Line(name="validation", values=_values(epochs, "val_accuracy"))]
  loss = [charts.Line(name="loss", values=_values(epochs, "loss"))]
  return Curves(title=title, accuracy=charts.lines(accuracy, f"accuracy of {name} by epoch"),
                loss=charts.lines(loss, f"loss of {name} by epoch"))


def _counted(count: int, noun: str) -> str:
  return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _values(epochs: Sequence[Mapping[str, Any]], field: str) -> list[float]:
  """Returns a number per epoch, NaN where there is none (JSON keeps NaN as null)."""
  return [math.nan if epoch.get(field) is None else float(epoch[field]) for epoch in epochs]


def history(metrics: Mapping[str, Any]) -> list[Mapping[str, float]]:
  """Returns the epochs of a stage, those of all its rounds one after the other.

  Args:
    metrics: of a stage.

  Returns:
    One dict per epoch: loss, accuracy, val_accuracy.

  Example:
    >>> history({"rounds": [{"history": [{"loss": 2.0}]}, {"history": [{"loss": 1.0}]}]})
    [{'loss': 2.0}, {'loss': 1.0}]
  """
  epochs = list(metrics.get("history", ()))
  for one in metrics.get("rounds", ()):
    epochs += one.get("history", ())
  return epochs


def _tree(stages: Sequence[Stage], workdir: Path) -> dict[str, Any]:
  """Returns what the template's tree of stages shows; bars are in em."""
  seconds = {stage.id: float(stage.numbers.get("seconds", 0.0)) for stage in stages}
  longest = max([*seconds.values(), 1e-9])
  bars = {name: f"{_LONGEST_BAR * taken / longest:.2f}" for name, taken in seconds.items()}
  links = {stage.id: _inspection_of(stage.id, workdir) for stage in stages}
  return {"lineage": nested(stages), "numbers": view.key_numbers(stages), "links": links,
          "bars": bars, "seconds": f"{sum(seconds.values()):,.1f}"}


def _inspections(stages: Sequence[Stage], folder: Path) -> None:
  """Writes the pages that are missing or older than their artifact."""
  folder.mkdir(exist_ok=True)
  by_id = {stage.id: stage for stage in stages}
  loaded: dict[str, Any] = {}  # a parent is compared with by all its children
  old = [stage for stage in stages if stage.artifact is not None
         and not _is_fresh(folder / f"{stage.id}.html", stage.artifact)]
  started = time.monotonic()
  for number, stage in enumerate(old, 1):
    file = folder / f"{stage.id}.html"
    # Large models take seconds each: a silent run would look stuck.
    if time.monotonic() - started > _SILENT:
      say(f"inspection {number} of {len(old)}: {file}")
      started = time.monotonic()
    try:
      files.write(file, _inspection(stage, by_id.get(stage.parent or ""), loaded))
    except ValueError as error:  # the study's results are there all the same
      say(f"no inspection of {stage.artifact}: {error}")


def _is_fresh(file: Path, artifact: Path) -> bool:
  return file.exists() and file.stat().st_mtime >= artifact.stat().st_mtime


def _inspection(stage: Stage, parent: Stage | None, loaded: dict[str, Any]) -> str:
  found = inspect.read(stage.artifact)
  params = _loaded(stage, loaded)
  before = None
  if parent is not None and parent.artifact is not None:
    before = (parent.name, _loaded(parent, loaded))
  return view.checkpoint_page(found, columns.leaf_rows(found), params, before=before,
                              link=address, back=("../report.html", "report"))


def _loaded(stage: Stage, loaded: dict[str, Any]) -> Any:
  """Returns the tree of a stage's artifact, which is decoded once."""
  if stage.id not in loaded:
    loaded[stage.id] = cj.artifact.load(stage.artifact)[0]
  return loaded[stage.id]

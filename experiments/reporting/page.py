"""`report.html`: a study on one page that needs no network, and a page an artifact beside it."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from compress_jax import inspect
from compress_jax.inspect import columns, page, svg, view
from compress_jax.inspect.lineage import Stage, ancestors, read_stage
from compress_jax.io import files
from experiments.training.progress import say

Row = Mapping[str, Any]
_COLUMNS = ("combo", "seed", "test_accuracy", "val_accuracy", "params", "nonzero_params",
            "sparsity", "dense_bytes", "nonzero_bytes", "gzip_bytes", "artifact_bytes",
            "reduction", "seconds", "artifact")


def write(rows: Sequence[Row], means: Sequence[Row], workdir: Path, *, config: Mapping[str, Any],
          environment: Mapping[str, Any]) -> None:
  """Writes `report.html`, and `inspect/<stage>.html` of every artifact that has none yet.

  Args:
    rows: of results.csv.
    means: one a combination, over seeds (`report.means`).
    workdir: the study's.
    config: the study's configuration.
    environment: what the results were made with.
  """
  stages, many = _stages(rows, workdir), len({r["seed"] for r in rows}) > 1
  _inspections(stages, workdir / "inspect")
  text = page.document(
      f"{workdir.name} – report", f"<h1>{page.escape(workdir.name)}</h1>", _about(rows),
      "<h2>Results</h2>", _table(rows), _charts(means),
      "<h2>Training</h2>", _curves(stages, many), "<h2>Stages</h2>", _tree(stages, many),
      "<h2>Environment</h2>", page.facts({k: str(v) for k, v in environment.items()}),
      "<h2>Configuration</h2>", page.as_json(config))
  files.write(workdir / "report.html", text)


def _stages(rows: Sequence[Row], workdir: Path) -> list[Stage]:
  """Returns the stages that lead to the rows, each once."""
  ends = [read_stage((workdir / row["artifact"]).parent) for row in rows]
  return list({s.id: s for end in ends for s in ancestors(end)}.values())


def _about(rows: Sequence[Row]) -> str:
  seeds = len({r["seed"] for r in rows})
  return (f'<p class="soft">{len({r["combo"] for r in rows})} combinations, '
          f"{f'{seeds} seeds' if seeds > 1 else 'a single seed'}. A click on a heading sorts; "
          "a combination's name leads to the inspection of its artifact.</p>")


def address(stage: Stage, folder: str = "") -> str:
  """Returns the link to a stage's inspection."""
  return folder + urllib.parse.quote(f"{stage.id}.html")


def _table(rows: Sequence[Row]) -> str:
  shown = [{**r, "sparsity": _sparsity(r), "artifact": Path(r["artifact"]).name,
            "at": Path(r["artifact"])} for r in rows]
  fields = [f for f in columns.fields_of(shown, _COLUMNS) if f in _COLUMNS]

  def link(field: str, row: Row) -> str | None:
    if field == "combo":
      return "inspect/" + urllib.parse.quote(f"{row['at'].parent.name}.html")
    return urllib.parse.quote(str(row["at"])) if field == "artifact" else None

  return page.table("results", shown, fields, link=link)


def _sparsity(row: Row) -> float:
  return 1 - row["nonzero_params"] / max(1, row["params"])


def _charts(means: Sequence[Row]) -> str:
  """Returns accuracy against what is saved, against size and against sparsity."""
  names = [("saved, % of the base model's dense bytes (file size)", 1,
            lambda r: 100 * r["reduction"], "Pareto front: accuracy against percent saved"),
           ("deployable file, kB (logarithmic)", -1, lambda r: r["artifact_bytes"] / 1000,
            "Accuracy against size"),
           ("zeros among the parameters, %", 1, lambda r: 100 * _sparsity(r),
            "Accuracy against sparsity")]
  out = []
  for label, sign, value, title in names:
    places = [(value(r), 100 * r["test_accuracy"]) for r in means]
    points = [svg.Point(x=x, y=y, name=r["combo"], best=_is_best(sign * x, y, [
        (sign * a, b) for a, b in places])) for r, (x, y) in zip(means, places, strict=True)]
    drawn = svg.scatter(points, x_label=label, y_label="test accuracy, %", label=title,
                        log=sign < 0)
    out.append(f"<h2>{page.escape(title)}</h2><figure class=\"chart\">{drawn}<figcaption>"
               "Joined: those that no other one beats in both.</figcaption></figure>")
  return "".join(out)


def _is_best(x: float, y: float, others: Iterable[tuple[float, float]]) -> bool:
  """Returns whether no other point is as good in both and better in one."""
  return not any(a >= x and b >= y and (a > x or b > y) for a, b in others)


def _curves(stages: Sequence[Stage], many: bool) -> str:
  """Returns the training curves of every stage that trained, and names the others."""
  cards, still = [], []
  for stage in stages:
    epochs = history(stage.metrics or {})
    name = f"{stage.name}, seed {stage.spec.get('seed')}" if many else stage.name
    if not epochs:
      still.append(name)
      continue
    title = f"{name}: {len(epochs)} epochs"
    rounds = (stage.metrics or {}).get("rounds") or []
    more = f" in {len(rounds)} rounds" * bool(rounds)
    accuracy = [svg.Line(name=n, css=css, values=[_number(e.get(k)) for e in epochs])
                for n, k, css in (("training accuracy", "accuracy", "train"),
                                  ("validation accuracy", "val_accuracy", "held"))]
    loss = svg.Line(name="loss", css="loss", values=[_number(e.get("loss")) for e in epochs])
    cards.append(f'<section class="card"><h3>{page.escape(title + more)}</h3><figure>'
                 f'{svg.lines(accuracy, f"accuracy of {name} by epoch")}</figure><figure>'
                 f'{svg.lines([loss], f"loss of {name} by epoch")}</figure></section>')
  key = "".join(f'<span class="key" style="--key: var(--{colour})">{name}</span> &ensp; '
                for colour, name in (("after", "training accuracy"),
                                     ("mark", "validation accuracy"), ("before", "loss")))
  rest = f" Without training: {', '.join(still)}." if still else ""
  return (f'<p class="soft">{key} By epoch; rounds of pruning one after the other.'
          f'{page.escape(rest)}</p><div class="cards">{"".join(cards)}</div>')


def history(metrics: Mapping[str, Any]) -> list[Mapping[str, float]]:
  """Returns the epochs of a stage, those of all its rounds one after the other.

  Example:
    >>> history({"rounds": [{"history": [{"loss": 2.0}]}, {"history": [{"loss": 1.0}]}]})
    [{'loss': 2.0}, {'loss': 1.0}]
  """
  return [*metrics.get("history", ()),
          *(epoch for r in metrics.get("rounds", ()) for epoch in r.get("history", ()))]


def _number(value: Any) -> float:
  return float("nan") if value is None else float(value)


def _tree(stages: Sequence[Stage], many: bool) -> str:
  seconds = {s.id: float(s.numbers.get("seconds", 0.0)) for s in stages}
  longest = max([*seconds.values(), 1e-9])

  def about(stage: Stage) -> str:
    bar = f'<span class="bar" style="width: {8 * seconds[stage.id] / longest:.2f}em"></span>'
    seed = f"seed {stage.spec.get('seed')}: " * (many and stage.parent is None)
    return f"{bar}{page.escape(seed)}{view.about_stage(stage, address(stage, 'inspect/'))}"

  whole = f"{sum(seconds.values()):,.1f}"
  return (f'<p class="soft">Bars: the seconds that each took; {whole} together.</p>'
          f"{page.tree(stages, about)}")


def _inspections(stages: Sequence[Stage], folder: Path) -> None:
  """Writes the pages that are missing or older than their artifact."""
  folder.mkdir(exist_ok=True)
  loaded: dict[str, Any] = {}

  def params(stage: Stage) -> Any:
    if stage.id not in loaded:
      loaded[stage.id] = cj.artifact.load(stage.artifact)[0]
    return loaded[stage.id]

  by_id = {s.id: s for s in stages}
  for stage in stages:
    file = folder / f"{stage.id}.html"
    if stage.artifact is None or (
        file.exists() and file.stat().st_mtime >= stage.artifact.stat().st_mtime):
      continue
    try:
      found = inspect.read(stage.artifact)
      parent = by_id.get(stage.parent or "")
      before = (parent.name, params(parent)) if parent and parent.artifact else None
      files.write(file, view.checkpoint_page(found, columns.leaf_rows(found), params(stage),
                                          before=before, link=address))
    except ValueError as error:  # the study's results are there all the same
      say(f"no inspection of {stage.artifact}: {error}")

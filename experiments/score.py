"""What files of models reach, in this process and from the files alone.

python -m experiments.score FILE … --data_dir=DIR

A file that a study wrote says which model of the zoo it holds and for which data; its test accuracy
is measured again, on all test images, with the weights that are decoded here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import compress_jax as cj
from compress_jax.inspect.terminal import plain_table
from experiments.datasets import builders, folder
from experiments.training.techniques import Trained

_FIELDS = ("model", "arguments", "num_classes", "data", "lifted")


def main(argv: Sequence[str] | None = None) -> int:
  """Prints a table of files, or JSON.

  Args:
    argv: the arguments; None takes the process's.

  Returns:
    The exit status: 0, or 2 for what cannot be done.
  """
  options = _parser().parse_args(argv)
  try:
    rows = [score(Path(file), options.data_dir) for file in options.files]
  except (ValueError, OSError) as error:
    print(f"score: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  print(json.dumps(rows, indent=2) if options.json else table(rows))
  return 0


def score(file: Path, data_dir: str | None) -> dict[str, Any]:
  """Returns what a file reaches and takes.

  Args:
    file: that a study wrote, `model.cjx`.
    data_dir: see `builders.builder`.

  Returns:
    {"file", "model", "data", "images", "test_accuracy" (0 to 1), "params", "nonzero_params",
    "artifact_bytes"}.

  Raises:
    ValueError: the file is damaged, does not say what it holds, or is of other classes.
  """
  variables, known = cj.artifact.load(file)
  missing = [field for field in _FIELDS if field not in known]
  if missing:
    raise ValueError(f"{file}: has no {missing[0]!r}; must be a file that a study wrote")
  if known["data"] == "folder" and "side" not in known:
    raise ValueError(f"{file}: does not say of which size its images were; must be a file of "
                     "release 0.6 or later")
  trained = Trained(name=known["model"], arguments=known["arguments"], lifted=known["lifted"],
                    num_classes=known["num_classes"], variables=variables)
  # Whatever is held out for validation: of the test images nothing is.
  builder = builders.builder(known["data"], data_dir, known.get("side"))
  _check_classes(file, known, builder, data_dir)
  test = builders.load(builder, validation=0.1, seed=0).test
  params, nonzero = cj.count(trained.params)
  return {"file": str(file), "model": trained.name, "data": known["data"], "images": len(test),
          "test_accuracy": trained.accuracy(test), "params": params, "nonzero_params": nonzero,
          "artifact_bytes": file.stat().st_size}


def _check_classes(file: Path, known: dict[str, Any], builder: Any, data_dir: str | None) -> None:
  """Refuses data of other classes than a file's, by their number, and a folder's by their names."""
  classes = builders.num_classes(builder)
  if classes != known["num_classes"]:
    raise ValueError(f"{file}: was made for {known['num_classes']} classes; data_dir={data_dir!r} "
                     f"has {classes}, and must be the same data")
  # Files of releases before 0.7 do not say it.
  if "classes" in known and folder.digest(builder.info.features["label"].names) != known["classes"]:
    raise ValueError(f"{file}: was made for classes of other names than those of "
                     f"data_dir={data_dir!r}, which must be the same data")


def table(rows: Sequence[dict[str, Any]]) -> str:
  """Returns rows as a table for people.

  Args:
    rows: from `score`.

  Example:
    >>> print(table([{"file": "m.cjx", "model": "cnn", "data": "mnist", "images": 10000,
    ...               "test_accuracy": 0.9812, "params": 20000, "nonzero_params": 2000,
    ...               "artifact_bytes": 4120}]))
    file   model  data   test accuracy  parameters  not zero   file
    m.cjx  cnn    mnist        98.12 %      20,000     2,000  4.1 kB
  """
  headings = ["file", "model", "data", "test accuracy", "parameters", "not zero", "file"]
  cells = [[row["file"], row["model"], row["data"], f"{100 * row['test_accuracy']:.2f} %",
            f"{row['params']:,}", f"{row['nonzero_params']:,}",
            f"{row['artifact_bytes'] / 1000:,.1f} kB"] for row in rows]
  return plain_table(headings, cells, [False] * 3 + [True] * 4)


def _parser() -> argparse.ArgumentParser:
  made = argparse.ArgumentParser(prog="score", description=(
      "Measures the test accuracy of files that studies wrote, and says what they take."))
  made.add_argument("files", nargs="+", metavar="FILE", help="an artifact, model.cjx")
  made.add_argument("--data_dir", help="prepared TensorFlow Datasets, or a folder of images")
  made.add_argument("--json", action="store_true", help="print JSON")
  return made


if __name__ == "__main__":
  sys.exit(main())

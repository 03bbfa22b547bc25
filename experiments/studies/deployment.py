"""A stage's model as a file, and what it measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compress_jax as cj
from experiments import hosts
from experiments.datasets import folder
from experiments.datasets.splits import Data
from experiments.training.techniques import Trained


def _about(data: Data, part: Any) -> dict[str, Any]:
  """Returns what the metadata of an artifact says of the data; of a folder more than its name.

  Args:
    data: the data.
    part: of the configuration, says which they are.
  """
  if part.name != "folder":
    return {"data": part.name}
  return {"data": part.name, "side": data.train.shape[0], "classes": folder.digest(data.classes)}


def deploy(trained: Trained, directory: Path, data: Data, part: Any,
           **metadata: Any) -> dict[str, Any]:
  """Writes a stage's artifact, and measures the model.

  Args:
    trained: the stage's model.
    directory: of the stage; the file is `model.cjx` there.
    data: the data.
    part: of the configuration, says which data.
    **metadata: of the artifact, beside what says how to make the model.

  Returns:
    Accuracies, sizes in bytes, and under "trained" what makes a `Trained` again.
  """
  # As a resumed study reads it from metrics.json: the same bytes in the artifact.
  arguments = json.loads(json.dumps(dict(trained.arguments), sort_keys=True))
  about = {"name": trained.name, "arguments": arguments, "num_classes": trained.num_classes,
           "lifted": trained.lifted}
  file = directory / "model.cjx"
  if hosts.first():
    cj.artifact.save(file, trained.variables, model=trained.name, arguments=arguments,
                     lifted=trained.lifted, num_classes=trained.num_classes,
                     **_about(data, part), **metadata)
  hosts.wait("artifact")
  size = file.stat().st_size
  params, nonzero = cj.count(trained.params)
  measured = cj.size(trained.variables, artifact_bytes=size)
  return {"val_accuracy": trained.accuracy(data.validation),
          "test_accuracy": trained.accuracy(data.test), "params": params,
          "nonzero_params": nonzero, "dense_bytes": measured.dense,
          "nonzero_bytes": measured.nonzero, "gzip_bytes": measured.gzip,
          "artifact_bytes": size, "trained": about}

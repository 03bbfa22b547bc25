"""What a search of compression plans asks of a model: accuracy, bytes, milliseconds."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

import compress_jax as cj
from experiments.datasets.splits import Data, Split
from experiments.training import evaluate, techniques

_dense = jax.jit(cj.dense)  # leaf by leaf: a plan of known leaves compiles nothing


@dataclasses.dataclass(frozen=True, eq=False)
class Scorer:
  """Scores compressed parameters of a model without batch norms.

  Attributes:
    trained: the model; its own parameters are not used.
    split: the images, never those of the test.
    data: latencies are of its test images.
    metadata: of the artifact whose bytes count.
    calls: timed calls of a latency.
    batch: images per call.
  """

  trained: techniques.Trained
  split: Split
  data: Data
  metadata: dict[str, Any]
  calls: int = 30
  batch: int = 1
  _timed: dict[Any, float] = dataclasses.field(default_factory=dict)

  def scores(self, params: Any) -> dict[str, float]:
    """Returns "accuracy", 0 to 1, and the mean "log_likelihood" of the labels, in nats.

    Args:
      params: compressed parameters of the model.
    """
    plain = jax.tree.map(_dense, params, is_leaf=cj.is_leaf)
    logits = evaluate.logits(self.trained.model, {"params": plain}, self.split)
    labels = self.split.labels
    chances = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]
    return {"accuracy": float((logits.argmax(-1) == labels).mean()),
            "log_likelihood": float(chances.mean())}

  def accuracy(self, params: Any) -> float:
    """Returns the fraction of the images that are right; see `scores`."""
    return self.scores(params)["accuracy"]

  def size(self, params: Any) -> int:
    """Returns the bytes of the file that deploys compressed parameters."""
    return len(cj.artifact.encode({"params": cj.freeze(params)}, **self.metadata))

  def milliseconds(self, params: Any) -> float:
    """Returns the median time of the deployed program, in milliseconds.

    Timed once for all parameters that run the same kernels: kinds, ranks and integer
    widths decide it; zeros and unused bits are multiplied like any other value.
    """
    frozen = cj.freeze(params)
    key = tuple(_kernel(x) for _, x in cj.entries(frozen)[0])
    if key not in self._timed:
      model = dataclasses.replace(self.trained, variables={"params": frozen}, lifted=True)
      self._timed[key] = techniques.milliseconds(model, self.data, calls=self.calls,
                                                 batch=self.batch)
    return self._timed[key]


def _kernel(x: Any) -> Any:
  """Returns what decides how a leaf is computed with: types, shapes, stored dtypes."""
  if not cj.is_leaf(x):
    return (x.shape, str(x.dtype))
  inner = tuple(_kernel(v) for v in x.fields().values() if v is not None)
  return (type(x).__name__, *inner)


def part(split: Split, images: int) -> Split:
  """Returns the first images of a split.

  Args:
    split: the images.
    images: so many; 0 is all.
  """
  if 0 < images < len(split):
    return split.take(np.arange(images))
  return split

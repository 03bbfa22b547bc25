"""Image classification data through TensorFlow Datasets, held as uint8 arrays or streamed."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
from typing import Any

import numpy as np

DATASETS = ("cifar10", "digits", "folder", "mnist")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
  """Images and their labels.

  Attributes:
    images: uint8, (count, height, width, channels).
    labels: int32, (count,).
  """

  images: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def shape(self) -> tuple[int, ...]:
    """(height, width, channels) of an image."""
    return self.images.shape[1:]

  def read(self, index: Any) -> np.ndarray:
    """Returns the images at `index`, a slice or integers."""
    return self.images[index]

  def take(self, index: np.ndarray) -> Split:
    """Returns the examples at `index`."""
    return Split(images=self.images[index], labels=self.labels[index])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """A data set.

  Attributes:
    train: what is trained on.
    validation: held out of the training set; models are selected on it.
    test: only reported.
    num_classes: labels are below it.
  """

  train: Split
  validation: Split
  test: Split
  num_classes: int


def builder(name: str, data_dir: str | None = None, side: int | None = None) -> Any:
  """Returns the TFDS builder of a data set, prepared.

  Args:
    name: one of `DATASETS`.
    data_dir: where TFDS keeps prepared data, None is its default folder; for "folder"
      the folder of images.
    side: pixels that a folder's images are resized to; None is 224.

  Returns:
    A `tfds.core.DatasetBuilder`.

  Raises:
    ValueError: an unknown name, a folder that is not there, or data that cannot
      be prepared here.
  """
  if name not in DATASETS:
    raise ValueError(f"data.name={name!r}: may be one of {', '.join(DATASETS)}")
  if name == "folder" and not data_dir:
    raise ValueError("data.name='folder': --data_dir is missing; it may be a folder with "
                     "train/<class> and test/<class> of images")
  if name == "folder":
    from experiments.datasets.folder import Folder
    return Folder(data_dir, side or 224)
  if data_dir and not os.path.isdir(data_dir):
    raise ValueError(f"data_dir={data_dir!r}: is no directory; it may be one that holds "
                     f"prepared TensorFlow Datasets")
  import tensorflow_datasets as tfds
  if name == "digits":
    from experiments.datasets.digits import Digits
    made = Digits(data_dir=data_dir, file_format="array_record")
  else:
    made = tfds.builder(name, data_dir=data_dir, file_format="array_record")
  if not made.is_prepared() if hasattr(made, "is_prepared") else not made.data_path.exists():
    _prepare(made, name, data_dir)
  return made


def _prepare(made: Any, name: str, data_dir: str | None) -> None:
  import tensorflow_datasets as tfds
  where = data_dir or os.path.dirname(os.path.dirname(str(made.data_path)))
  if name != "digits" and importlib.util.find_spec("tensorflow") is None:
    # Known before the download: encoding the catalogue's images needs TensorFlow.
    raise ValueError(f"data.name={name!r}: not prepared in {where}; preparing it there needs "
                     "`pip install tensorflow-cpu` once, or set --data_dir to where it is")
  try:
    tfds.disable_progress_bar()
    made.download_and_prepare()
  except Exception as error:  # TFDS and the network raise many kinds
    raise ValueError(f"data.name={name!r}: not in {where} and cannot be prepared there "
                     f"({str(error)[:120]!r}); set --data_dir") from error


def fingerprint(made: Any) -> str:
  """Returns a short text that identifies a prepared data set without reading it."""
  if made.name == "folder":
    return made.fingerprint()
  splits = {k: [v.num_examples, v.num_bytes] for k, v in sorted(made.info.splits.items())}
  return hashlib.sha256(json.dumps([made.info.full_name, splits]).encode()).hexdigest()[:12]


def num_classes(made: Any) -> int:
  """Returns how many classes a prepared data set has."""
  # The digits' labels are plain integers, which need no TensorFlow.
  return getattr(made.info.features["label"], "num_classes", 10)


def image_shape(made: Any) -> tuple[int, ...]:
  """Returns (height, width, channels) of a prepared data set's images."""
  return made.info.features["image"].shape


def load(made: Any, *, validation: float, seed: int, limit: int | None = None) -> Data:
  """Reads a data set into memory, but a folder of images, which is streamed (`folder.load`).

  Args:
    made: a prepared builder.
    validation: fraction of the training set to hold out, 0 to 1.
    seed: of the choice of what is held out.
    limit: use only so many training and so many test images; None is all.

  Returns:
    The three splits.

  Raises:
    ValueError: validation leaves one side empty.
  """
  if made.name == "folder":
    from experiments.datasets import folder
    return folder.load(made, validation=validation, seed=seed, limit=limit)
  train, test = (_read(made, split) for split in ("train", "test"))
  order = np.random.default_rng(seed).permutation(len(train))[:limit]
  held = round(validation * len(order))
  if not 0 < held < len(order):
    raise ValueError(f"data.validation={validation}: may be above 0 and below 1, and must leave "
                     f"images on both sides of {len(order)}")
  return Data(train=train.take(order[held:]), validation=train.take(order[:held]),
              test=test.take(np.arange(len(test))[:limit]), num_classes=num_classes(made))


def _read(made: Any, split: str) -> Split:
  source = made.as_data_source(split=split)
  examples = source.__getitems__(range(len(source)))
  return Split(images=np.stack([e["image"] for e in examples]).astype(np.uint8),
               labels=np.array([e["label"] for e in examples], np.int32))

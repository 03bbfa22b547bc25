"""Image classification data through TensorFlow Datasets (TFDS), held in memory or streamed."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from experiments.datasets import folder
from experiments.datasets.digits import Digits
from experiments.datasets.splits import Data, Split, hold_out

DATASETS = ("cifar10", "digits", "folder", "mnist")


def builder(name: str, data_dir: str | None = None, side: int | None = None) -> Any:
  """Returns the TFDS builder of a data set, prepared.

  Args:
    name: one of `DATASETS`.
    data_dir: where TFDS keeps prepared data; None or "" is its default folder. For
      "folder" it is the folder of images.
    side: pixels that a folder's images are resized to; None is 224.

  Returns:
    A `tfds.core.DatasetBuilder`.

  Raises:
    ValueError: an unknown name, a folder that is not there, or data that cannot
      be prepared here.
  """
  if name not in DATASETS:
    raise ValueError(f"data.name={name!r}: must be one of {', '.join(DATASETS)}")
  if name == "folder":
    return _folder(data_dir, side)
  if data_dir and not os.path.isdir(data_dir):
    raise ValueError(f"data_dir={data_dir!r}: is no directory; it must be one that holds "
                     "prepared TensorFlow Datasets")
  made = _made(name, data_dir)
  # TFDS moves a data set to this folder only when it is complete.
  if not made.data_path.exists():
    _prepare(made, name, data_dir)
    # Again, to read what is in the folder: another process may have been first.
    made = _made(name, data_dir)
  return made


def _made(name: str, data_dir: str | None) -> Any:
  # TFDS takes "" for the current directory; here it stands for TFDS's default folder.
  options = {"data_dir": data_dir or None, "file_format": "array_record"}
  return Digits(**options) if name == "digits" else tfds.builder(name, **options)


def _folder(data_dir: str | None, side: int | None) -> folder.Folder:
  if not data_dir:
    raise ValueError("data.name='folder': --data_dir is missing; it must be a folder with "
                     "train/<class> and test/<class> of images")
  return folder.Folder(data_dir, side or 224)


def _prepare(made: Any, name: str, data_dir: str | None) -> None:
  """Downloads and prepares a data set; raises a ValueError that says what is needed for it."""
  # data_path is <folder>/<name>/<version>.
  where = data_dir or os.path.dirname(os.path.dirname(str(made.data_path)))
  if name != "digits" and importlib.util.find_spec("tensorflow") is None:
    # Known before the download: encoding the catalogue's images needs TensorFlow.
    raise ValueError(f"data.name={name!r}: not prepared in {where}; preparing it there needs "
                     "`pip install tensorflow-cpu` once, or set --data_dir to where it is")
  try:
    tfds.disable_progress_bar()
    made.download_and_prepare()
  except Exception as error:  # TFDS and the network raise many kinds
    if made.data_path.exists():
      return  # another study, started at the same time, has just prepared it
    raise ValueError(f"data.name={name!r}: not in {where} and cannot be prepared there "
                     f"({str(error)[:120]!r}); set --data_dir") from error


def fingerprint(made: Any) -> str:
  """Returns a short text that identifies a prepared data set, without reading its images.

  Args:
    made: a prepared builder.
  """
  if made.name == "folder":
    return made.fingerprint()
  splits = {name: [split.num_examples, split.num_bytes]
            for name, split in sorted(made.info.splits.items())}
  return hashlib.sha256(json.dumps([made.info.full_name, splits]).encode()).hexdigest()[:12]


def check(made: Any, limit: int | None = None) -> None:
  """Refuses data that would be found to be broken only late in a study.

  Args:
    made: a prepared builder.
    limit: as given to `load`.

  Raises:
    ValueError: a folder has test images that cannot be read; names them.
  """
  # TFDS has checked what it prepared itself.
  if made.name == "folder":
    made.check(limit)


def num_classes(made: Any) -> int:
  """Returns how many classes a prepared data set has.

  Args:
    made: a prepared builder.
  """
  # The digits' labels are plain integers, which need no TensorFlow; they say no number.
  return getattr(made.info.features["label"], "num_classes", 10)


def image_shape(made: Any) -> tuple[int, ...]:
  """Returns (height, width, channels) of a prepared data set's images.

  Args:
    made: a prepared builder.
  """
  return made.info.features["image"].shape


def load(made: Any, *, validation: float, seed: int, limit: int | None = None) -> Data:
  """Reads a data set into memory; a folder of images is streamed instead (`folder.load`).

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
    return folder.load(made, validation=validation, seed=seed, limit=limit)
  train, test = _read(made, "train"), _read(made, "test")
  kept, held = hold_out(len(train), validation=validation, seed=seed, limit=limit)
  return Data(train=train.take(kept), validation=train.take(held),
              test=test.take(np.arange(len(test))[:limit]), num_classes=num_classes(made))


def _read(made: Any, name: str) -> Split:
  source = made.as_data_source(split=name)
  # One call: array_record reads many examples together.
  examples = source.__getitems__(range(len(source)))
  return Split(images=np.stack([e["image"] for e in examples]).astype(np.uint8),
               labels=np.array([e["label"] for e in examples], np.int32))

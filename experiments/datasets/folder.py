"""A folder of images as a data set: files are decoded when they are needed, never all held."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from experiments.datasets.splits import Data, hold_out, shuffled

VALIDATION = ("valid", "validation", "val")  # names that the folder's own split may have
ENDINGS = (".jpg", ".jpeg", ".png")
THREADS = 4  # that decode; Pillow lets others run meanwhile


class Folder(tfds.ImageFolder):
  """`tfds.ImageFolder` without TensorFlow: root/{train,valid,test}/<class>/*.{jpg,jpeg,png}.

  TFDS lists and decodes files by TensorFlow; here the standard library and Pillow
  do. Layout, features, class names and the order of the files are TFDS's.

  Attributes:
    files: of each split: [(path, class name), …].
  """

  # Next to this file there is no metadata folder to look for.
  pkg_dir_path = None

  def __init__(self, root: str, side: int):
    """Lists the files.

    Args:
      root: the folder.
      side: pixels, height and width, that images are resized to.

    Raises:
      ValueError: the folder or a split is not there, or has no images, or fewer than two classes.
    """
    # The attributes that ImageFolder's methods read; its constructor would need TensorFlow.
    self._image_shape, self._image_dtype, self._data_dir = (side, side, 3), None, root
    self.side, self.files = side, _listed(Path(root))
    tfds.core.DatasetBuilder.__init__(self, data_dir=root)
    self.info.features["label"].names = sorted({label for _, label in self.files["train"]})
    self.info.set_splits(tfds.core.splits.SplitDict([
        tfds.core.SplitInfo(name=name, shard_lengths=[len(files)], num_bytes=0,
                            filename_template=None)
        for name, files in self.files.items()]))

  def fingerprint(self) -> str:
    """Returns a short text that identifies the files by their names and sizes."""
    return self._fingerprint

  @functools.cached_property
  def _fingerprint(self) -> str:
    root = self._data_dir
    listed = [[os.path.relpath(path, root), os.path.getsize(path)]
              for files in self.files.values() for path, _ in files]
    return _short(sorted(listed))

  def split(self, name: str) -> Files:
    """Returns a split's images and labels, none of them read.

    Args:
      name: of the split, a key of `files`.
    """
    number = {label: i for i, label in enumerate(self.info.features["label"].names)}
    paths, labels = zip(*self.files[name], strict=True)
    return Files(paths=np.array(paths), side=self.side,
                 labels=np.array([number[label] for label in labels], np.int32))

  def check(self, limit: int | None = None) -> None:
    """Decodes the test images, which would be read only after hours of training.

    It takes as long as evaluating a model does, which every stage does at its end.

    Args:
      limit: how many are used; None is all.

    Raises:
      ValueError: some are not images, or broken; names them.
    """
    _first(self.split("test"), limit).check()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
  """Images in files, and their labels; used like `splits.Split`.

  Attributes:
    paths: str, (count,).
    labels: int32, (count,).
    side: pixels, height and width, that images are resized to (bilinear).
  """

  paths: np.ndarray
  labels: np.ndarray
  side: int

  def __len__(self) -> int:
    return len(self.labels)

  @property
  def shape(self) -> tuple[int, ...]:
    """(height, width, channels) of an image."""
    return self.side, self.side, 3

  def read(self, index: Any) -> np.ndarray:
    """Returns images, decoded by several threads.

    Args:
      index: a slice or integers.

    Returns:
      uint8, (count, side, side, 3).

    Raises:
      ValueError: a file is not an image, or is broken; names it, and others of the split.
    """
    paths = self.paths[index]
    images = np.empty((len(paths), *self.shape), np.uint8)

    def some(first: int) -> None:
      # Every image has its own row: which thread is first makes no difference.
      for i in range(first, len(paths), THREADS):
        images[i] = decoded(paths[i], self.side)

    with ThreadPoolExecutor(THREADS) as threads:
      try:
        list(threads.map(some, range(THREADS)))
      except ValueError:
        self.check()  # whoever mends one file wants to know of all
        raise
    return images

  def check(self) -> None:
    """Decodes all files, which takes as long as an epoch.

    Raises:
      ValueError: some are not images, or broken; names up to three, and says how many there are.
    """
    def wrong(path: str) -> str:
      try:
        decoded(path, self.side)
      except ValueError as error:
        return str(error)
      return ""

    with ThreadPoolExecutor(THREADS) as threads:
      broken = [text for text in threads.map(wrong, self.paths) if text]
    if broken:
      more = f"; and {len(broken) - 3} more files" if len(broken) > 3 else ""
      raise ValueError("; ".join(broken[:3]) + more)

  def take(self, index: np.ndarray) -> Files:
    """Returns the split that has only some examples, none of them read.

    Args:
      index: integers.
    """
    return dataclasses.replace(self, paths=self.paths[index], labels=self.labels[index])


def decoded(path: str, side: int) -> np.ndarray:
  """Returns an image file as uint8, (side, side, 3), as a viewer shows it on a black page.

  Args:
    path: of a JPEG or PNG file.
    side: pixels, height and width, that it is resized to (bilinear).

  Raises:
    ValueError: it is not an image, or is broken; names it.
  """
  try:
    with Image.open(path) as image:
      shown = _eight_bits(ImageOps.exif_transpose(image))
      return np.asarray(shown.resize((side, side), Image.Resampling.BILINEAR))
  except Exception as error:  # Pillow's decoders raise many kinds
    raise ValueError(f"{path}: cannot be read as an image ({error})") from error


def _eight_bits(image: Image.Image) -> Image.Image:
  """Returns an image in RGB; Pillow would cut 16 bits off at 255 and show hidden colors."""
  if image.mode.startswith("I"):
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
      raise ValueError("it has integers of more than 16 bits")
    image = Image.fromarray((values // 257).astype(np.uint8))
  if image.has_transparency_data:
    image = image.convert("RGBA")
    page = Image.new("RGBA", image.size, (0, 0, 0, 255))
    image = Image.alpha_composite(page, image)
  return image.convert("RGB")


def load(made: Folder, *, validation: float, seed: int, limit: int | None = None) -> Data:
  """Returns the splits of a folder; nothing is read yet.

  Args:
    made: the folder.
    validation: fraction of the training images to hold out, 0 to 1, where the
      folder has no validation split of its own.
    seed: of the order, and so of the choice of what is held out.
    limit: use only so many images of every split; None is all.

  Returns:
    The three splits.

  Raises:
    ValueError: validation leaves one side empty.
  """
  train, test = made.split("train"), made.split("test")
  own = next((name for name in VALIDATION if name in made.files), None)
  if own is None:
    kept, held = hold_out(len(train), validation=validation, seed=seed, limit=limit)
    selection = train.take(held)
  else:
    kept = shuffled(len(train), seed=seed, limit=limit)
    selection = _first(made.split(own), limit)
  label = made.info.features["label"]
  return Data(train=train.take(kept), validation=selection, test=_first(test, limit),
              num_classes=label.num_classes, classes=tuple(label.names))


def digest(classes: Sequence[str]) -> str:
  """Returns a short text that identifies class names in their order.

  Args:
    classes: of a folder.

  Example:
    >>> digest(["cat", "dog"]) == digest(["dog", "cat"])
    False
  """
  return _short(list(classes))


def _short(value: Any) -> str:
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _first(files: Files, limit: int | None) -> Files:
  return files.take(np.arange(len(files))[:limit])


def _listed(root: Path) -> dict[str, list[tuple[str, str]]]:
  """Returns (path, class) of every split's images, in TFDS's order; raises as `Folder` does."""
  if not root.is_dir():
    raise ValueError(f"data_dir={str(root)!r}: is no directory; it must be one with folders "
                     "train/<class> and test/<class> of images")
  there = [name for name in ("train", *VALIDATION, "test") if (root / name).is_dir()]
  files = {name: _images(root / name) for name in there}
  for name in ("train", "test", *there):
    if not files.get(name):
      raise ValueError(f"data_dir={str(root)!r}: no images in {name}/<class>; they must end in "
                       f"{', '.join(ENDINGS)}")
  _check_training(root, files["train"])
  for name in there:
    _check_classes(root, name, files)
    # TFDS shuffles so, with the split's name as the seed.
    random.Random(name).shuffle(files[name])
  return files


def _check_training(root: Path, files: list[tuple[str, str]]) -> None:
  """Raises a ValueError for classes without training images, or fewer than two classes."""
  known = {label for _, label in files}
  empty = [folder.name for folder in _folders(root / "train") if folder.name not in known]
  if empty:
    raise ValueError(f"data_dir={str(root)!r}: no images in train/{empty[0]}; they must end in "
                     f"{', '.join(ENDINGS)}")
  if len(known) < 2:
    raise ValueError(f"data_dir={str(root)!r}: train/{known.pop()} is the only class; must be two "
                     "or more")


def _check_classes(root: Path, name: str, files: dict[str, list[tuple[str, str]]]) -> None:
  """Raises a ValueError for a split with a class that training never sees."""
  known = {label for _, label in files["train"]}
  strange = sorted({label for _, label in files[name]} - known)
  if strange:
    raise ValueError(f"data_dir={str(root)!r}: {name}/{strange[0]} is a class that train/ "
                     "has no images of")


def _images(split: Path) -> list[tuple[str, str]]:
  """Returns (path, class) of a split's images, sorted."""
  found = []
  for folder in _folders(split):
    for path in sorted(folder.iterdir()):
      if path.suffix.lower() in ENDINGS and not _hidden(path) and path.is_file():
        found.append((str(path), folder.name))
  return found


def _folders(split: Path) -> list[Path]:
  """Returns the folders of a split's classes, sorted."""
  return sorted(path for path in split.iterdir() if path.is_dir() and not _hidden(path))


def _hidden(path: Path) -> bool:
  # What file managers and notebooks leave behind: ._image.jpg, .ipynb_checkpoints.
  return path.name.startswith(".")

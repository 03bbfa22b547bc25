"""Writes a data set as a folder of JPEGs, for the study that reads folders.

python -m experiments.datasets.as_folder --name=cifar10 --folder=FOLDER [--side=64] [--data_dir=DIR]
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from PIL import Image

from compress_jax import checks
from experiments.datasets import builders

_QUALITY = 95  # of the JPEGs: what it loses is less than what resizing blurs


def main(argv: Sequence[str]) -> None:
  """Writes the data set that the flags name.

  Args:
    argv: not used.
  """
  given = flags.FLAGS
  count = write(given.name, Path(given.folder), side=given.side, data_dir=given.data_dir,
                limit=given.limit or None)
  print(f"{count:,} images written to {given.folder}")


def write(name: str, folder: Path, *, side: int, data_dir: str | None = None,
          limit: int | None = None) -> int:
  """Writes a data set as folder/{train,test}/<class>/<number>.jpg.

  Args:
    name: of a data set that is held in memory, such as "cifar10".
    folder: where to; it must be empty or not there.
    side: pixels, height and width, to which images are resized (bicubic).
    data_dir: see `builders.builder`.
    limit: so many images of each split; None is all.

  Returns:
    How many images were written.

  Raises:
    ValueError: the folder holds something, or a number is out of range.
  """
  checks.whole("side", side, 1)
  if limit is not None:
    checks.whole("limit", limit, 1)
  # In a folder of its own until it is complete: a part of a data set would pass for one.
  partial = folder / ".partial"
  if folder.exists() and any(path != partial for path in folder.iterdir()):
    raise ValueError(f"folder={str(folder)!r}: holds something; it must be empty or not there")
  shutil.rmtree(partial, ignore_errors=True)  # of a run that was stopped
  builder = builders.builder(name, data_dir)
  count = _write(builder, partial, side, limit)
  for split in list(partial.iterdir()):
    split.rename(folder / split.name)
  partial.rmdir()
  return count


def _write(builder: Any, folder: Path, side: int, limit: int | None) -> int:
  """Writes a prepared data set, and returns how many images that were."""
  # A data set without names for its classes numbers them.
  numbers = [str(label) for label in range(builders.num_classes(builder))]
  names = getattr(builder.info.features["label"], "names", None) or numbers
  count = 0
  for split in ("train", "test"):
    for label in names:
      (folder / split / label).mkdir(parents=True)
    source = builder.as_data_source(split)
    there = range(len(source))[:limit]
    save = functools.partial(_save, source, folder / split, names, side)
    count += len(_in_threads(save, there))
  return count


def _in_threads(save: Callable[[int], None], numbers: Iterable[int]) -> list[None]:
  """Calls a function of each number; Pillow lets other threads run while it works."""
  with ThreadPoolExecutor() as pool:
    try:
      return list(pool.map(save, numbers))
    except BaseException:
      # A full disk, or Ctrl-C: the others need not be tried.
      pool.shutdown(cancel_futures=True)
      raise


def _save(source: Any, folder: Path, names: Sequence[str], side: int, number: int) -> None:
  """Writes one image of a split as folder/<class>/<number>.jpg."""
  example = source[number]
  path = folder / names[int(example["label"])] / f"{number:05d}.jpg"
  _image(example["image"], side).save(path, quality=_QUALITY)


def _image(pixels: np.ndarray, side: int) -> Image.Image:
  """Returns an image of three channels, resized."""
  if pixels.shape[-1] == 1:
    pixels = np.repeat(pixels, 3, axis=-1)
  return Image.fromarray(pixels.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)


if __name__ == "__main__":
  flags.DEFINE_string("name", "cifar10", "The data set.")
  flags.DEFINE_string("folder", None, "Where to write.", required=True)
  flags.DEFINE_integer("side", 64, "Height and width of the images, in pixels.")
  flags.DEFINE_string("data_dir", None, "Prepared TensorFlow Datasets. Default: TFDS's own.")
  flags.DEFINE_integer("limit", 0, "So many images of each split; 0 is all.")
  app.run(main)

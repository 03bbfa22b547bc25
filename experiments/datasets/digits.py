"""The scanned digits that scikit-learn carries, as a TensorFlow Datasets builder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
  """1,797 digits of 8 x 8 pixels; every fifth is a test image."""

  VERSION = tfds.core.Version("1.0.0")
  RELEASE_NOTES: ClassVar = {"1.0.0": "As in scikit-learn, pixels scaled to 0..255."}
  # Next to this file there is no metadata folder to look for.
  pkg_dir_path = None

  def _info(self) -> tfds.core.DatasetInfo:
    # Plain `Tensor` features: preparing and reading need no TensorFlow.
    return self.dataset_info_from_configs(
        description="Optical recognition of handwritten digits (UCI, test set).",
        homepage="https://archive.ics.uci.edu/dataset/80",
        features=tfds.features.FeaturesDict({
            "image": tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
            "label": tfds.features.Scalar(dtype=np.int64)}),
        supervised_keys=("image", "label"))

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    # Imported late: only preparing needs scikit-learn, which takes a second to start.
    from sklearn import datasets
    digits = datasets.load_digits()
    # scikit-learn's pixels are from 0 to 16.
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    test = np.arange(len(images)) % 5 == 4
    return {"train": self._generate_examples(images[~test], digits.target[~test]),
            "test": self._generate_examples(images[test], digits.target[test])}

  def _generate_examples(self, images: np.ndarray, labels: np.ndarray) -> Iterator[Any]:
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
      yield i, {"image": image, "label": int(label)}

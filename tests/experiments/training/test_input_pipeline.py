"""What feeds the steps: a split from disk gives what one in memory does."""

import numpy as np

from experiments.training import input_pipeline
from tests.experiments.training.test_loop import toy


class Disk:
  """A split of which only what is asked for is in memory."""

  def __init__(self, split):
    self._split, self.labels, self.shape, self.asked = split, split.labels, split.shape, []

  def __len__(self):
    return len(self.labels)

  def read(self, index):
    self.asked.append(np.size(index))
    return self._split.images[index]


def test_a_streamed_split_gives_the_steps_the_same_images(monkeypatch):
  data, order = toy(), input_pipeline.order(64, 7, 8, [0])
  monkeypatch.setattr(input_pipeline, "PIECE_BYTES", 3 * 8 * 64)  # three steps a call
  disk = Disk(data.train)
  streamed = input_pipeline.of(disk, None, 8)
  seen = {}
  for first, last, piece in streamed.calls(order):
    for step in range(first, last):
      row = step - piece["offset"]
      np.testing.assert_array_equal(piece["order"][row], order[step])
      seen[step] = piece["images"][row], piece["labels"][row]
  assert sorted(seen) == list(range(7)) and max(disk.asked) == 24 and sum(disk.asked) == 56
  (_, _, held), = input_pipeline.of(data.train, None, 8).calls(order)
  for step, (images, labels) in seen.items():
    row = held["order"][step - held["offset"]]
    np.testing.assert_array_equal(images, held["images"][row])
    np.testing.assert_array_equal(labels, held["labels"][row])

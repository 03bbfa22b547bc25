"""Distillation, pruning and quantization in one training, beside the same one after the other.

python launch.py --config=configs/joint.py                 digits, a minute or two on 2 cores
python launch.py --config=configs/joint.py:mnist,short     MNIST on a laptop
python launch.py --config=configs/joint.py:cifar10         ResNet-18, a small student; wants a GPU

The future work of "An analysis of compression methods" (section VIII): the serial
pipeline distils, prunes and retrains, then trains quantization-aware; the joint
training does all of it in every step, for as many epochs as the three together.
The teacher guides every part of both. `--config.sparsity=0.9 --config.bits=4` asks
for more.
"""

import functools

from ml_collections import ConfigDict

from configs import common

_AUGMENT = {"digits": {"crop": 1, "rotate": 10.0}, "mnist": {"crop": 2, "rotate": 10.0},
            "cifar10": {"crop": 4, "flip": True}}
_TEACHERS = {"digits": common.model("densenet", depth=10, growth=12, stem=16),
             "mnist": common.model("densenet", depth=10, growth=12, stem=16),
             "cifar10": common.model("resnet18")}
_STUDENTS = {"digits": common.model("convnet", widths=(12, 24, 32), hidden=(48, 32)),
             "mnist": common.model("convnet", widths=(8, 16, 24), hidden=(32, 24)),
             "cifar10": common.model("convnet", widths=(32, 64, 128), hidden=(128, 64))}


def get_config(arg: str = "digits") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: "DATA[,full|short|smoke]", where DATA is "digits", "mnist" or "cifar10".

  Raises:
    ValueError: unknown data, or an unknown budget.
  """
  name, _, budget = (arg or "digits").partition(",")
  common.choose("configs/joint.py", name, _STUDENTS)
  config = common.common("experiments.studies.joint.study.run",
                         {"name": name, "augment": _AUGMENT[name]})
  large = name == "cifar10"
  rate = 1e-3 if large else 3e-3
  # A pass over the digits is only ten steps.
  train = functools.partial(common.train, steps_per_epoch=50 if name == "digits" else 0)
  config.update({
      "model": _TEACHERS[name],
      "student": _STUDENTS[name],
      "base": {"train": train(100 if large else 16, learning_rate=rate)},
      # Of the serial pipeline; the joint training has their sum.
      "kd": {"train": train(100 if large else 12, learning_rate=rate)},
      "imp": {"train": train(60 if large else 6, learning_rate=rate)},
      "q": {"train": train(40 if large else 6, learning_rate=rate / 3)},
      "joint": {"learning_rate": rate, "schedule": "cubic", "start": 0.1, "stop": 0.6,
                "every": 10},
      "temperature": 5.0,
      "alpha": 0.7,
      "sparsity": 0.77,  # as in the paper's Table III
      "bits": 8,
      "activation_bits": 8,
      "images": 2048 if large else 512,
      "combine": common.combinations(
          _STUDENTS[name], kd=train(100 if large else 16, learning_rate=rate),
          imp=train(40 if large else 4)),
  })
  return common.spend("configs/joint.py", budget, {
      "full": None, "short": _short, "smoke": _smoke}, config)


def _parts(config: ConfigDict) -> list[ConfigDict]:
  """Returns all parts that train."""
  return [config.base, config.kd, config.imp, config.q, config.combine.kd, config.combine.imp]


def _short(config: ConfigDict) -> None:
  """Three epochs of fifty steps each, on a part of the data."""
  common.few(_parts(config), 50, 32, epochs=3)
  config.data.limit = config.data.limit or 4000
  config.combine.imp.rounds = 2


def _smoke(config: ConfigDict) -> None:
  """Tiny models and a few steps, for tests."""
  common.few(_parts(config), 8, 16, epochs=2)
  config.data.limit, config.images, config.joint.every = 300, 64, 2
  config.combine.imp.rounds = 1
  config.model = common.model("convnet", widths=(6, 8), hidden=(12,))
  config.student = common.model("convnet", widths=(4, 4), hidden=(8,))

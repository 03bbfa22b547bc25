"""The sixteen combinations of "Combinatorics with model compression" (Figures 3 to 6).

python launch.py --config=configs/combo.py                 digits, 2 to 4 minutes on 2 cores
python launch.py --config=configs/combo.py:mnist           small DenseNet, up to half an hour
python launch.py --config=configs/combo.py:cifar10         the paper's recipe; wants a GPU
python launch.py --config=configs/combo.py:cifar10,overnight   real models, all images, hours

A budget follows the data set: `:cifar10,short` trains the real DenseNet-40 for a
few steps, in minutes; `smoke` is for tests. Or in numbers: `:cifar10,epochs=2` trains
the base model, the student and each recovery for at most 2 epochs, `steps=20` makes
an epoch 20 steps, `images=2000` uses only so many images, `rounds=3` prunes at most
3 times. Any field can be set: `--config.imp.fraction=0.3 --config.seeds=3`.

Expected (paper, CIFAR-10 validation): base 92.8 %; imp+q 91.65 %; the smallest
file that loses little is that of imp+q.
"""

from ml_collections import ConfigDict

from configs import common

_SIZES = {"full": (), "short": ("steps=15", "images=1000", "rounds=2"),
          "smoke": ("epochs=1", "steps=3", "images=200", "rounds=1")}


def get_config(arg: str = "digits") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: "DATA[,full|overnight|short|smoke][,epochs=…][,steps=…][,images=…][,rounds=…]", where DATA
      is "digits", "mnist" or "cifar10".

  Raises:
    ValueError: unknown data, or an unknown budget.
  """
  name, *budget = (arg or "digits").split(",")
  made = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
  common.choose("configs/combo.py", name, made)
  config = made[name]()
  for item in budget:
    if item == "overnight":
      _overnight(config)
    elif item in _SIZES:
      _spend_size(config, item)
    else:
      _spend_number(config, item)
  return common.apart(config).lock()


def _overnight(config: ConfigDict) -> None:
  """All images and the real models, in some three hours of 2 cores that are fast at bfloat16.

  Not run to its end yet: the time is what 200 images a second would take, DenseNet-40's.
  """
  config.data.augment.update({"crop": 2, "pad": "reflect", "rotate": 0.0,
                              "jitter": 0.0, "alternating": config.data.augment.flip})
  config.base.train = common.muon(10)
  # The teacher answers in ten times an epoch of the student: it is asked about five epochs.
  config.kd.train = common.train(30, learning_rate=3e-3, views=5)
  # Few and large rounds: after seven 4.4 % of the weights are left. Each goes on like the end of
  # the base model's training: another optimizer alone costs most of what the tolerance allows.
  config.imp.update({"train": common.muon(1, rate=0.04), "fraction": 0.36, "rounds": 7})
  config.imp.train.update({"bias_learning_rate": 1.25e-3, "head_learning_rate": 1.25e-3})


def _spend_size(config: ConfigDict, size: str) -> None:
  """Applies a budget in a word."""
  for item in _SIZES[size]:
    _spend_number(config, item)
  if _SIZES[size]:
    # One epoch of each training, and batches that a few images fill.
    common.few((config.base, config.kd, config.imp), config.base.train.steps_per_epoch, 32)


def _spend_number(config: ConfigDict, item: str) -> None:
  """Applies one "field=number" of a budget."""
  key, _, value = item.partition("=")
  known = key in ("epochs", "steps", "images", "rounds")
  if not known or not value.isdigit() or int(value) < 1:
    raise ValueError(f"configs/combo.py: budget {item!r} must be overnight, "
                     f"{', '.join(_SIZES)}, or epochs=, steps=, images= or rounds= and a whole "
                     "number from 1")
  number = int(value)
  if key == "images":
    config.data.limit = number
    config.q.images = min(config.q.images, number)
  elif key == "rounds":
    config.imp.rounds = number
  else:
    field = "epochs" if key == "epochs" else "steps_per_epoch"
    for part in (config.base, config.kd, config.imp):
      part.train[field] = number


def _cifar10() -> ConfigDict:
  """The paper's full recipe."""
  config = common.common("experiments.studies.combo.study.run", {
      "name": "cifar10", "augment": {"crop": 4, "flip": True, "rotate": 10.0, "jitter": 0.2}})
  config.update({
      "teacher": common.model("densenet", depth=40, growth=12, stem=16),
      "base": {"train": common.train(100)},
      "conventional": True,  # also the student without a teacher (Figure 3)
      "deltas": (1, 2, 3, 4, 5, 6, 7),  # r_max - rank, for Figure 5
      **common.combinations(
          common.model("convnet", widths=(16, 32, 64), hidden=(128, 64)),
          kd=common.train(500), imp=common.train(100)),
  })
  return config


def _mnist() -> ConfigDict:
  """The paper's study on MNIST, sized for a laptop.

  Of the rates 0.001, 0.003, 0.01 and 0.03, 0.01 had the best validation accuracy for the large
  model (98.58, 99.07, 99.30 and 99.22 %) and for the student (97.75, 98.73, 98.85 and 98.77 %).
  """
  config = _cifar10()
  config.data.name = "mnist"
  config.data.augment.update({"crop": 2, "flip": False, "jitter": 0.0})
  config.teacher.arguments.update({"depth": 10})
  config.student.arguments.update({"widths": (8, 16, 24), "hidden": (32, 24)})
  config.base.train = common.train(4, learning_rate=1e-2)
  config.kd.train = common.train(6, learning_rate=1e-2)
  config.imp.update({"train": common.train(3, steps_per_epoch=200), "tolerance": 0.003,
                     "rounds": 12})
  config.deltas = (1, 2, 3, 4, 5, 6)
  return config


def _digits() -> ConfigDict:
  """A study of the same shape on 8 x 8 digits, in two to four minutes on 2 cores."""
  config = _cifar10()
  config.data.name = "digits"
  config.data.augment.update({"crop": 1, "flip": False, "jitter": 0.0})
  config.teacher.arguments.update({"depth": 10})
  config.student.arguments.update({"widths": (12, 24, 32), "hidden": (48, 32)})
  config.base.train = common.train(16, steps_per_epoch=50, learning_rate=3e-3)
  config.kd.train = common.train(16, steps_per_epoch=50, learning_rate=3e-3)
  config.imp.update({"train": common.train(4, steps_per_epoch=50), "rounds": 10})
  config.q.images = 512
  config.conventional, config.deltas = False, ()
  return config

"""The grids of "Evaluation of compression combinations" (Tables I to III).

python launch.py --config=configs/grid.py:mnist            the paper's CNN, in full
python launch.py --config=configs/grid.py:mnist,short      the same cells, one epoch each
python launch.py --config=configs/grid.py:cifar10          AlexNet of 58 M; wants a GPU
python launch.py --config=configs/grid.py:cifar10,overnight  at 83 pixels, all images, hours
python launch.py --config=configs/grid.py:cifar10,short    the same at 67 pixels, a few steps

Six sparsities by three precisions, each pruned and retrained, then rounded and
retrained. Cells train one after the other; `--config.vmap=true` trains them side
by side in one program. `--config.compare_steps=100` also trains all cells for so
many steps in both ways and as eighteen separate programs, and shows that they agree.

Expected (paper, CNN): 98.17 % dense; 97.80 % at 8 bits; 95.95 % at 90 % sparsity;
29.75 % at 99 %. Ours: see the README.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "mnist") -> ConfigDict:
  """Returns the study's configuration.

  Args:
    arg: "DATA[,full|overnight|short|smoke]", where DATA is "mnist" or "cifar10".

  Raises:
    ValueError: unknown data, or an unknown budget.
  """
  name, _, budget = (arg or "mnist").partition(",")
  models = {"mnist": common.model("cnn"), "cifar10": common.model("alexnet", side=227)}
  common.choose("configs/grid.py", name, models)
  # Ours: smaller for the larger network.
  rate = 1e-3 if name == "mnist" else 1e-4
  config = common.common("experiments.studies.grid.study.run", {"name": name, "validation": 0.3})
  config.update({
      "model": models[name],
      "sparsities": (0.0, 0.5, 0.75, 0.9, 0.95, 0.99),
      "bits": (32, 16, 8),
      # As in the paper, which names no schedule.
      "base": {"train": common.train(12, learning_rate=rate, schedule="constant")},
      "prune_epochs": 12,  # as in the paper
      "round_epochs": 4,  # the paper does not say
      "steps_per_epoch": 0,  # 0 is a pass over the data
      "batch_size": 128,
      "learning_rate": rate,
      "decays": False,  # whether the rate falls to 0 in each part
      "images": 2048,  # calibrate the inputs' grids at 8 bits
      "vmap": False,
      "compare_steps": 0,
      # The paper has no student: a small one of ours.
      "combine": common.combinations(
          common.model("convnet", widths=(8, 16, 24), hidden=(32, 24)),
          kd=common.train(12), imp=common.train(12, learning_rate=rate)),
  })
  return common.spend("configs/grid.py", budget, {
      "full": None, "overnight": _overnight, "short": _short, "smoke": _smoke}, config)


def _overnight(config: ConfigDict) -> None:
  """AlexNet at 83 pixels with narrower hidden layers, 4 M parameters for 58 M; some 80 % dense."""
  if config.data.name == "cifar10":
    # In sixteen epochs a network with half of its hidden units dropped learns too little.
    config.model.arguments = ConfigDict({"side": 83, "width": 512, "dropout": 0.2})
    config.data.validation = 0.1
    config.data.augment.update({"crop": 2, "pad": "reflect", "flip": True})
    config.base.train = common.train(16, learning_rate=7e-4)
    config.prune_epochs, config.round_epochs = 2, 1
    config.learning_rate, config.decays = 5e-4, True


def _short(config: ConfigDict) -> None:
  """All cells, one epoch each; AlexNet smaller and for a few steps."""
  config.base.train.epochs, config.prune_epochs, config.round_epochs = 2, 1, 1
  if config.data.name == "cifar10":
    _few_steps(config)
  _combine(config)


def _smoke(config: ConfigDict) -> None:
  """Tiny models and a few steps, for tests."""
  _short(config)
  config.data.limit = config.images = 600
  config.steps_per_epoch, config.batch_size = 10, 32
  _combine(config)
  common.few((config.base,), 10, 32, epochs=2)


def _few_steps(config: ConfigDict) -> None:
  """Fewer pixels and narrower hidden layers: the dense model then has 4.1 M of 58 M parameters."""
  config.model.arguments = ConfigDict({"side": 67, "width": 512})
  config.data.limit, config.learning_rate, config.prune_epochs = 2000, 1e-3, 2
  config.steps_per_epoch, config.batch_size, config.images = 40, 32, 256
  common.few((config.base,), 40, 32, epochs=6)
  config.base.train.learning_rate = 1e-3


def _combine(config: ConfigDict) -> None:
  """Lets the combinations train as little as the cells do."""
  parts = config.combine
  common.few((parts.kd, parts.imp), config.steps_per_epoch, config.batch_size)
  parts.imp.rounds, parts.q.images = 2, config.images

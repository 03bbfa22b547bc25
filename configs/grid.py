"""The grids of "Evaluation of compression combinations" (Tables I to III).

python launch.py --config=configs/grid.py:mnist            the paper's CNN, in full
python launch.py --config=configs/grid.py:mnist,short      the same cells, an epoch each
python launch.py --config=configs/grid.py:cifar10          AlexNet of 58 M; wants a GPU
python launch.py --config=configs/grid.py:cifar10,short    the same at 67 pixels, a few steps

Six sparsities by three precisions, each pruned and retrained, then rounded and
retrained. Cells train one after the other; `--config.vmap=true` trains them side
by side in one program. `--config.compare_steps=100` also trains all cells for so
many steps in both ways and as eighteen separate programs, and shows that they agree.

Expected (paper, CNN): 98.17 % dense; 97.80 % at 8 bits; 95.95 % at 90 % sparsity;
29.75 % at 99 %. Ours: see the README.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "mnist") -> ConfigDict:
  """Returns the study's configuration for "DATA[,full|short|smoke]"."""
  name, _, budget = (arg or "mnist").partition(",")
  models = {"mnist": {"name": "cnn", "arguments": {}}, "cifar10": {"name": "alexnet",
                                                                  "arguments": {"side": 227}}}
  budgets = {"full": _full, "short": _short, "smoke": _smoke}
  if name not in models:
    raise ValueError(f"configs/grid.py:{name}: may be one of {', '.join(models)}")
  if (budget or "full") not in budgets:
    raise ValueError(f"configs/grid.py: budget {budget!r} may be one of {', '.join(budgets)}")
  config = ConfigDict({
      "study": "experiments.grid.run",
      "data": {"name": name, "validation": 0.3, "limit": 0},
      "model": models[name],
      "sparsities": (0.0, 0.5, 0.75, 0.9, 0.95, 0.99),
      "bits": (32, 16, 8),
      "base_epochs": 12,
      "prune_epochs": 12,
      "round_epochs": 4,
      "steps_per_epoch": 0,  # 0 is a pass over the data
      "batch_size": 128,
      "learning_rate": 1e-3 if name == "mnist" else 1e-4,
      "images": 2048,  # calibrate the inputs' grids at 8 bits
      "vmap": False,
      "compare_steps": 0,
      "seed": 0,
      "seeds": 1,
  })
  budgets[budget or "full"](config)
  return config.lock()


def _full(config: ConfigDict) -> None:
  """The paper's 12 epochs and 12 of pruning; it does not say how many after rounding."""


def _short(config: ConfigDict) -> None:
  config.base_epochs, config.prune_epochs, config.round_epochs = 2, 1, 1
  if config.data.name == "cifar10":
    _few_steps(config)


def _smoke(config: ConfigDict) -> None:
  _short(config)
  config.data.limit = config.images = 600
  config.steps_per_epoch, config.batch_size = 10, 32
  if config.data.name == "cifar10":
    _few_steps(config)


def _few_steps(config: ConfigDict) -> None:
  """Fewer pixels and narrower hidden layers: the dense model is then 5 M, not 58 M."""
  config.model.arguments = ConfigDict({"side": 67, "width": 512})
  config.data.limit = min(config.data.limit or 4000, 4000)
  config.steps_per_epoch, config.batch_size, config.images = 20, 32, 256

"""What a report is about: the study, its model and data, its paper, and what names mean."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.reporting import paper_tables

# The techniques in the names of combinations, in the papers' abbreviations.
TERMS = {
    "kd": "knowledge distillation: a smaller network, trained on the base model's logits",
    "imp": "iterative magnitude pruning, each round trained until it recovers",
    "lrtf": "low-rank factorization of the linear layers",
    "fisher": "low-rank factorization weighted by the Fisher information",
    "tune": "training after factorization",
    "q": "quantization of weights and of layers' inputs",
}
_DATA = {"digits": "the 8 × 8 digits of scikit-learn", "mnist": "MNIST", "cifar10": "CIFAR-10",
         "folder": "a folder of images"}
# The zoo's models as their papers write them.
_MODELS = {"airnet": "AirNet", "alexnet": "AlexNet", "cnn": "CNN", "convnet": "ConvNet",
           "densenet": "DenseNet", "resnet18": "ResNet", "resnet50": "ResNet-50", "vgg": "VGG"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
  """What stands at the top of a report.

  Attributes:
    study: what the study is, a sentence.
    title: model and data.
    paper: the paper's title, or "".
    terms: {name: what it means} of the names in its rows.
  """

  study: str
  title: str
  paper: str
  terms: Mapping[str, str]


def about(config: Mapping[str, Any], names: Iterable[str]) -> About:
  """Returns what a study's report is about.

  Args:
    config: of the study.
    names: of its rows.

  Example:
    >>> config = {"study": "experiments.studies.combo.study.run", "data": {"name": "digits"},
    ...           "teacher": {"name": "densenet"}}
    >>> found = about(config, ["base", "imp+q"])
    >>> found.title, found.paper, list(found.terms)
    ('DenseNet on the 8 × 8 digits of scikit-learn', 'Combinatorics with model compression', \
['imp', 'q'])
  """
  package = config.get("study", "").rpartition(".study.")[0]
  parts = {part for name in names for part in name.split("+")}
  return About(study=_sentence(package), title=title(config), paper=_paper(package),
               terms={name: text for name, text in TERMS.items() if name in parts})


def _sentence(package: str) -> str:
  """Returns the first line of a study's docstring."""
  try:
    return (importlib.import_module(package).__doc__ or "").strip().partition("\n")[0]
  except (ImportError, ValueError):
    return ""  # results of a study that is not to be found here


def title(config: Mapping[str, Any]) -> str:
  """Returns the model and the data of a study.

  Args:
    config: of the study.

  Example:
    >>> title({"model": {"name": "vgg"}, "data": {"name": "cifar10"}})
    'VGG on CIFAR-10'
  """
  model = config.get("model") or config.get("teacher") or {}
  data = config.get("data", {}).get("name", "")
  name = model.get("name", "a model")
  return f"{_MODELS.get(name, name)} on {_DATA.get(data, data or 'data')}"


def _paper(package: str) -> str:
  try:
    return paper_tables.paper(package.rpartition(".")[2])["paper"]
  except FileNotFoundError:
    return ""  # a study of our own

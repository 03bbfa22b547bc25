"""Studies whose tables say how long a deployed model takes for an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.studies import base, measured
from experiments.training import techniques


class Timed(base.Study):
  """One seed of a study that times its models, as often as `config.calls` says."""

  @property
  def measuring(self) -> Mapping[str, Any]:
    return {**self.fields("calls"), "machine": measured.machine()}

  def measure(self, name: str, trained: techniques.Trained) -> Mapping[str, Any]:
    """Times one image through the deployed model.

    Args:
      name: the stage's.
      trained: its model.
    """
    return {"milliseconds": techniques.milliseconds(trained, self.data, calls=self.config.calls)}

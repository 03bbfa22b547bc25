"""What the stages of a study do: teach, distil, prune, factorize, quantize."""

from experiments.training.techniques.factorizing import factorize, information
from experiments.training.techniques.joint_training import joint
from experiments.training.techniques.pruning import prune_iteratively
from experiments.training.techniques.quantizing import (
    calibrated,
    deployed,
    halve,
    quantize,
    quantize_aware,
    without_norms,
)
from experiments.training.techniques.teaching import distil, finetune, guide, teach
from experiments.training.techniques.trained import Outcome, Trained, fresh, milliseconds

__all__ = ["Outcome", "Trained", "calibrated", "deployed", "distil", "factorize", "finetune",
           "fresh", "guide", "halve", "information", "joint", "milliseconds",
           "prune_iteratively", "quantize", "quantize_aware", "teach", "without_norms"]

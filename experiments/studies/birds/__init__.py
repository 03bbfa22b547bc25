"""Birds of 525 species, of "Comparative analysis of distillation, quantization and pruning"."""

from experiments.studies.birds.study import Birds, run

__all__ = ["Birds", "run"]

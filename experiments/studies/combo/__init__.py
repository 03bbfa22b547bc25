"""The sixteen combinations of "Combinatorics with model compression"."""

from experiments.studies.combo.study import Combinations, beside, run

__all__ = ["Combinations", "beside", "run"]

"""Fields that came later leave old stages where they were."""

from configs import combo
from experiments import defaults
from experiments.studies import checks


def test_a_specification_of_before_has_the_same_digest():
  made = combo.get_config("digits,smoke")
  found = defaults.without(made.base.to_dict())
  assert found == {"train": {"epochs": 1, "batch_size": 32, "steps_per_epoch": 3,
                             "learning_rate": 3e-3, "final_learning_rate": 1e-7}}
  data = defaults.without(made.data.to_dict())
  assert "side" not in data
  assert data["augment"] == {"crop": 1, "flip": False, "rotate": 10.0, "jitter": 0.0}


def test_every_later_field_has_a_rule():
  for part, fields in (("train", defaults.TRAIN), ("augment", defaults.AUGMENT)):
    for name, value in fields.items():
      assert checks.rule(f"{part}.{name}", {}).problem(name, value) is None

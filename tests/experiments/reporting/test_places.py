"""Results live by configuration."""

import json

from ml_collections import ConfigDict

from experiments.reporting import places


def config(**changes):
  return ConfigDict({"study": "s", "imp": {"fraction": 0.2}, "widths": (4, 8), "seeds": 1,
                     "compare_steps": 0, **changes})


def report(made, root, data="abc"):
  folder = places.folder(made, root, data)
  (folder / "results.json").write_text(json.dumps({"config": made.to_dict(), "data": data}))
  return folder.relative_to(root).as_posix()


def test_other_settings_have_a_folder_of_their_own(tmp_path):
  assert report(config(), tmp_path) == "."
  assert report(config(imp={"fraction": 0.5}), tmp_path) == "results/imp.fraction=0.5"
  assert report(config(widths=(4, 9), seeds=3), tmp_path) == "results/seeds=3,widths=-4,9"
  # Again: the same places, and nothing overwritten.
  assert report(config(), tmp_path) == "."
  assert report(config(imp={"fraction": 0.5}), tmp_path) == "results/imp.fraction=0.5"
  assert json.loads((tmp_path / "results.json").read_text())["config"]["imp"]["fraction"] == 0.2


def test_fields_that_change_no_result_do_not_part(tmp_path):
  assert report(config(), tmp_path) == report(config(compare_steps=5), tmp_path) == "."


def test_long_names_are_cut_and_still_differ(tmp_path):
  report(config(), tmp_path)
  first, second = (report(config(**{f"field{i}": i for i in range(50)}, last=last), tmp_path)
                   for last in (1, 2))
  assert first != second and max(len(first), len(second)) < 120


def test_results_that_lack_stages_make_room(tmp_path):
  report(config(), tmp_path)
  (tmp_path / places.MISSING).touch()
  assert report(config(seeds=2), tmp_path) == "."


def test_a_damaged_results_json_is_written_again(tmp_path):
  (tmp_path / "results.json").write_text("{")
  assert report(config(), tmp_path) == "."


def test_settings_keep_their_folder_when_the_top_was_removed(tmp_path):
  report(config(), tmp_path)
  report(config(seeds=2), tmp_path)
  (tmp_path / "results.json").unlink()
  assert report(config(seeds=2), tmp_path) == "results/seeds=2"
  assert report(config(compute="x"), tmp_path) == "."


def test_results_are_not_overwritten_by_others_that_differ_from_a_new_top_in_the_same(tmp_path):
  report(config(), tmp_path)
  report(config(seeds=2), tmp_path)
  (tmp_path / "results.json").unlink()
  report(config(imp={"fraction": 0.5}), tmp_path)
  # Also "seeds=2", of other settings.
  new = report(config(imp={"fraction": 0.5}, seeds=2), tmp_path)
  assert new.startswith("results/seeds=2-")
  assert report(config(imp={"fraction": 0.5}, seeds=2), tmp_path) == new
  assert report(config(seeds=2), tmp_path) == "results/seeds=2"


def test_other_data_have_a_folder_of_their_own(tmp_path):
  assert report(config(), tmp_path) == "."
  assert report(config(), tmp_path, "def") == "results/data_fingerprint=def"
  assert report(config(), tmp_path) == "."
  # What an earlier release wrote does not say of which data it is.
  (tmp_path / "results.json").write_text(json.dumps({"config": config().to_dict()}))
  assert report(config(), tmp_path) == "."

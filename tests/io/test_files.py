"""Files that are replaced all or nothing."""

import os
import stat

from compress_jax.io import files


def test_what_a_link_points_to_is_replaced(tmp_path):
  (tmp_path / "target").write_text("old")
  (tmp_path / "link").symlink_to(tmp_path / "target")
  files.write(tmp_path / "link", "new")
  assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "new"


def test_files_are_as_private_as_the_user_has_them(tmp_path):
  mode = lambda name: stat.S_IMODE((tmp_path / name).stat().st_mode)
  before = os.umask(0o077)
  try:
    files.write(tmp_path / "private", "x")
  finally:
    os.umask(before)
  assert mode("private") == 0o600
  files.write(tmp_path / "private", "again")
  assert mode("private") == 0o600

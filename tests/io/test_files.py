"""Files that are replaced all or nothing."""

import errno
import os
import stat

import pytest

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


def test_a_folder_is_synced_from_the_inside(tmp_path, monkeypatch):
  (tmp_path / "a" / "b").mkdir(parents=True)
  (tmp_path / "a" / "b" / "file").write_text("x")
  (tmp_path / "a" / "link").symlink_to("nowhere")
  synced, fsync = [], os.fsync
  monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), fsync(fd)))
  files.sync(tmp_path)
  inside_out = (tmp_path / "a" / "b" / "file", tmp_path / "a" / "b", tmp_path / "a", tmp_path)
  assert synced == [path.stat().st_ino for path in inside_out]


def test_a_file_system_that_syncs_no_folders_is_no_error(tmp_path, monkeypatch):
  def refuses(number):
    def fails(fd):
      raise OSError(number, os.strerror(number))
    return fails
  monkeypatch.setattr(os, "fsync", refuses(errno.EINVAL))
  files.sync_names(tmp_path)
  monkeypatch.setattr(os, "fsync", refuses(errno.EIO))
  with pytest.raises(OSError, match="rror"):
    files.sync_names(tmp_path)

"""Whether files are safe to unpickle: who may have written them.

Numba keeps compiled functions in pickles, and whoever wrote a pickle decides what runs when it is read. A folder is
used only when nobody but the user and root can have put a file there, as OpenSSH demands of a folder of keys:

- the folder, every folder above it and every symbolic link on the way belong to the user or to root;
- nobody else may write to the folder; above it others may where it is sticky, as /tmp is: they cannot rename what
  is not theirs;
- a group may write where it is root's or the user's own (same name, no other members: the group of umask 002).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

HAS_OWNERS = hasattr(os, "geteuid")  # not on Windows, where a user's folders are closed to others by default


def reason_against_folder(path: str) -> str | None:
    """Return why a folder must not be read from, None where it may (OSError where it is not there)."""
    if not HAS_OWNERS:
        return None
    steps = list(_steps(os.path.abspath(path)))
    for i, (step, status) in enumerate(steps):
        if not _is_trusted(status):
            return f"{step} belongs to another user"
        is_last = i == len(steps) - 1
        if _others_write(status) and (is_last or not status.st_mode & stat.S_ISVTX):
            return f"other users may write to {step}"
    return None


def reason_against_file(path: str) -> str | None:
    """Return why a file of a folder that may be read from must not be (FileNotFoundError where it is not there)."""
    if not HAS_OWNERS:
        return None
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is no plain file"
    if not _is_trusted(status):
        return f"{path} belongs to another user"
    return f"other users may write to {path}" if _others_write(status) else None


def _steps(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every folder and symbolic link that an absolute path leads through, and its status; the last is the end."""
    parts = path.split(os.sep)
    here = os.sep
    yield here, os.lstat(here)
    for i, part in enumerate(parts):
        if part in ("", "."):
            continue
        if part == "..":  # of a link's target; the folder above was looked at on the way here
            here = os.path.dirname(here)
            continue
        step = os.path.join(here, part)
        status = os.lstat(step)
        yield step, status
        if stat.S_ISLNK(status.st_mode):
            target = os.path.join(here, os.readlink(step))
            yield from _steps(os.path.join(target, *parts[i + 1 :]))
            return
        here = step


def _is_trusted(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _others_write(status: os.stat_result) -> bool:
    if stat.S_ISLNK(status.st_mode):
        return False  # its mode means nothing
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and status.st_gid != 0 and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:  # a number without a name
        return False
    return group.gr_name == user.pw_name and gid == user.pw_gid and set(group.gr_mem) <= {user.pw_name}

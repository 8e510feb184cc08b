"""Whether files are safe to unpickle: who may have written them.

Numba keeps compiled functions in pickles, and whoever wrote a pickle decides what runs when it is read. A folder is
used only if nobody but the user and root can have put a file there, as OpenSSH demands of a folder of keys:

- The folder, every folder above it and every symbolic link on the way belong to the user or to root.
- Nobody else may write to the folder. Others may write to a folder above it if this is sticky, as /tmp is, because they
  cannot rename in it what is not theirs.
- A group may write if it is root's or the user's own (it has the same name and no other members, as with umask 002).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

HAS_OWNERS = hasattr(os, "geteuid")  # False on Windows, where the folders of a user are closed to others by default


def reason_against_folder(path: str) -> str | None:
    """Return why a folder must not be read from, or None if it may.

    OSError is raised if it does not exist.
    """
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
    """Return why a file, in a folder that may be read from, must not be read, or None if it may.

    FileNotFoundError is raised if it does not exist.
    """
    if not HAS_OWNERS:
        return None
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        return f"{path} is no plain file"
    if not _is_trusted(status):
        return f"{path} belongs to another user"
    return f"other users may write to {path}" if _others_write(status) else None


def _steps(path: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield every folder and symbolic link that an absolute path leads through, each with its status.

    The last one is the end of the path.
    """
    parts = path.split(os.sep)
    here = os.sep
    yield here, os.lstat(here)
    for i, part in enumerate(parts):
        if part in ("", "."):
            continue
        if part == "..":  # in the target of a link; the folder above was yielded on the way here
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
        return False  # the mode of a link means nothing
    if status.st_mode & stat.S_IWOTH:
        return True
    return bool(status.st_mode & stat.S_IWGRP) and status.st_gid != 0 and not _is_own_group(status.st_gid)


def _is_own_group(gid: int) -> bool:
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:  # the user or the group has no name
        return False
    return group.gr_name == user.pw_name and gid == user.pw_gid and set(group.gr_mem) <= {user.pw_name}

"""The account for PostgreSQL, which refuses to run as root or as a user without a name.

The first choice is a user namespace in which our own uid is called nobody: files stay ours, and nothing else changes.
Where the kernel forbids that (containers, mostly), root hands the data over to the real nobody.
Standard library only: the supervisor starts without the rest of the package.
"""

import contextlib
import ctypes
import os
import stat
import sys
from pathlib import Path
from typing import NamedTuple

if sys.platform != "win32":  # so that importing is harmless there; `use.servers` refuses with a sentence
    import pwd

CLONE_NEWUSER = 0x10000000


class Account(NamedTuple):
    """A user other than root."""

    uid: int
    gid: int
    mapped: bool
    """Our own uid under another name, in a user namespace; else a real switch of user."""


def ordinary(folder: Path, binary: Path) -> Account | None:
    """Return the account for a server that refuses ours, None if ours will do; PermissionError if there is none.

    ``folder`` is the server's, in the folder of the project's servers: these two are ours, and opened as far as needed.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return None
    nobody = _nobody()
    if nobody is not None and _namespaces_work(Account(*nobody, mapped=True)):
        return Account(*nobody, mapped=True)
    closed = [place for place in (*folder.parents[1:], *binary.parents) if not place.stat().st_mode & stat.S_IXOTH]
    if nobody is not None and os.geteuid() == 0 and not closed:
        for place in (folder, folder.parent):
            place.chmod(0o711)  # to pass through, not to list; what is in it is private by itself
        return Account(*nobody, mapped=False)
    raise PermissionError(
        f"PostgreSQL does not run as uid {os.geteuid()}, user namespaces are forbidden here, "
        + (f"and the user nobody may not enter {closed[-1]}. " if closed else "and there is no other account to run it. ")
        + "Work as an ordinary user, set CLIFFRACER_HOME to a folder that others may enter, or set DATABASE_URL."
    )


def enter_namespace(account: Account) -> None:
    """Give the calling process, which must have one thread, the account's ids in a user namespace of its own."""
    uid, gid = os.geteuid(), os.getegid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    own = Path("/proc/self")
    with contextlib.suppress(FileNotFoundError):
        (own / "setgroups").write_text("deny")
    (own / "uid_map").write_text(f"{account.uid} {uid} 1")
    (own / "gid_map").write_text(f"{account.gid} {gid} 1")


def hand_over(tree: Path, account: Account | None) -> None:
    """Make the account the owner of a whole tree, if it is not already."""
    uid, gid = (account.uid, account.gid) if account and not account.mapped else (os.geteuid(), os.getegid())
    if tree.lstat().st_uid == uid:
        return
    for _, folders, files, fd in os.fwalk(tree, topdown=False):  # the top comes last, so that an interruption is noticed
        for name in (*folders, *files):
            os.chown(name, uid, gid, dir_fd=fd, follow_symlinks=False)
    os.chown(tree, uid, gid, follow_symlinks=False)


def _namespaces_work(account: Account) -> bool:
    if not hasattr(ctypes.CDLL(None), "unshare"):
        return False
    child = os.fork()
    if child == 0:
        try:
            enter_namespace(account)
        except BaseException:  # noqa: BLE001 - a forked copy of us must end here, whatever happens
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def _has_name(uid: int) -> bool:
    try:
        return bool(pwd.getpwuid(uid))
    except KeyError:
        return False


def _nobody() -> tuple[int, int] | None:
    known = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    return min(((entry.pw_uid, entry.pw_gid) for entry in known if entry.pw_name == "nobody"), default=None) or next(
        ((entry.pw_uid, entry.pw_gid) for entry in known), None
    )

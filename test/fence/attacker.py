"""A hostile worker: tries every way we know to turn the leased descriptor (number 3) into a writable one.

    python3 attacker.py LENGTH [UID]

With UID it first becomes that user. Prints one line per try: NAME ok | NAME ERRNO.
"""
import ctypes
import errno
import mmap
import os
import struct
import sys

length = int(sys.argv[1])
if len(sys.argv) > 2:
    os.setgroups([])
    os.setresgid(int(sys.argv[2]), int(sys.argv[2]), int(sys.argv[2]))
    os.setresuid(int(sys.argv[2]), int(sys.argv[2]), int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
AT_EMPTY_PATH, OPEN_TREE_CLONE, MOUNT_ATTR_RDONLY = 0x1000, 1, 1
SYS_open_tree, SYS_mount_setattr = 428, 442


def attempt(name, action):
    try:
        action()
        print(name, "ok", flush=True)
    except (OSError, ValueError) as error:
        code = errno.errorcode.get(getattr(error, "errno", None), type(error).__name__)
        print(name, code, flush=True)


def syscall(number, *arguments):
    result = libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), "syscall")
    return result


def make_writable(fd):
    attributes = struct.pack("QQQQ", 0, MOUNT_ATTR_RDONLY, 0, 0)
    syscall(SYS_mount_setattr, fd, b"", AT_EMPTY_PATH, attributes, len(attributes))


def clone_and_open():
    tree = syscall(SYS_open_tree, 3, b"", OPEN_TREE_CLONE | AT_EMPTY_PATH)
    make_writable(tree)
    os.open(f"/proc/self/fd/{tree}", os.O_RDWR)


attempt("read", lambda: mmap.mmap(3, length, mmap.MAP_SHARED, mmap.PROT_READ).close())
attempt("write", lambda: os.pwrite(3, b"x", 0))
attempt("map-writable", lambda: mmap.mmap(3, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
attempt("truncate", lambda: os.ftruncate(3, 0))
attempt("chmod", lambda: os.fchmod(3, 0o666))
attempt("reopen", lambda: os.open("/proc/self/fd/3", os.O_RDWR))
attempt("remount", lambda: make_writable(3))
attempt("clone", clone_and_open)
attempt("reopen-again", lambda: os.open("/proc/self/fd/3", os.O_RDWR))

"""Run a module in a process that dies when it opens a socket: ``sealed.py MODULE ARGUMENT…``.

A seccomp filter (seccomp(2); Linux, no privileges needed) ends the process with SIGSYS at the first
call of ``socket``, by whichever thread and library. Exits with 77 where there is no such filter.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import runpy
import struct
import sys

# The number of the call (asm/unistd.h), and the name of the machine to the kernel (audit.h).
CALLS = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}
NO_SEAL = 77

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
# Offsets in struct seccomp_data.
NUMBER, ARCHITECTURE = 0, 4
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


def seal() -> None:
    """Have the kernel end this process when it opens a socket.

    Raises
    ------
    OSError
        The kernel, or whatever contains this process, does not do that.
    """
    if platform.system() != "Linux" or platform.machine() not in CALLS:
        raise OSError(errno.ENOSYS, "no filter for this system")
    call, architecture = CALLS[platform.machine()]
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, ARCHITECTURE),
            (JUMP_IF_EQUAL, 0, 2, architecture),
            (LOAD, 0, 0, NUMBER),
            (JUMP_IF_EQUAL, 1, 0, call),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, KILL_PROCESS),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    filtered = ctypes.create_string_buffer(described, len(described))
    if not done or libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filtered, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the filter was refused")


if __name__ == "__main__":
    try:
        seal()
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(NO_SEAL)
    del sys.argv[0], sys.path[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

"""A process that dies at the n-th call by which a save touches the disk.

`deaths` forks once for every call: open, write, fsync, rename, mkdir and removal. The child ends there as SIGKILL
ends it, with nothing tidied up; a write is cut in half first. What is left on the disk is for the caller to look at."""

import builtins
import io
import os
import sys
import traceback
from contextlib import contextmanager
from unittest import mock

CALLS = ('open', 'mkdir', 'rename', 'replace', 'fsync', 'unlink', 'rmdir', 'remove')
DIED = 137  # as a shell says of SIGKILL


class Death:
    "Counts calls, and ends the process at one of them; number 0 only counts."

    def __init__(self, number):
        self.number, self.calls = number, 0

    def due(self):
        self.calls += 1
        return self.calls == self.number

    def before(self, function):
        "The function, preceded by a possible death."

        def call(*args, **kwargs):
            if self.due():
                os._exit(DIED)
            return function(*args, **kwargs)

        return call

    def while_writing(self, function):
        "`open`, whose files may die half way through a write."

        def opened(*args, **kwargs):
            file = self.before(function)(*args, **kwargs)
            if not file.writable():
                return file
            write = file.write

            def half(content):
                if self.due():
                    write(content[: len(content) // 2])
                    file.flush()
                    os._exit(DIED)
                return write(content)

            return _Written(file, half)

        return opened


class _Written:
    "A file with another `write`."

    def __init__(self, file, write):
        self.file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.file.close()


@contextmanager
def mortal(death):
    "Calls that touch the disk may be the last."
    with mock.patch.object(io, 'open', death.while_writing(io.open)):
        with mock.patch.object(builtins, 'open', death.while_writing(builtins.open)):
            patches = [mock.patch.object(os, name, death.before(getattr(os, name))) for name in CALLS]
            for p in patches:
                p.start()
            try:
                yield
            finally:
                for p in patches:
                    p.stop()


def dies(number, work):
    "Do some work in a child that dies at a call; did it die, or was it through before?"
    pid = os.fork()
    if pid == 0:
        try:
            with mortal(Death(number)):
                work()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, DIED), f'the work failed, with {status}, at call {number}'
    return status == DIED


def deaths(prepare, work, seen):
    "Prepare, die at call 1, look; prepare, die at call 2, look; ... until the work is through. How often it died."
    number = 1
    while True:
        prepare()
        died = dies(number, work)
        seen(number, died)
        if not died:
            return number - 1
        number += 1

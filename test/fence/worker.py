"""A worker with nothing but a descriptor of the region, given as number 3.

    python3 worker.py OFFSET LENGTH

Maps [OFFSET, OFFSET + LENGTH) read-only, closes every descriptor, says "mapped PID", and then waits to be killed.
SIGUSR1   says "sum N", the sum of the first 4096 bytes of the mapping
SIGUSR2   forks a child that keeps the mapping, says "mapped PID", and waits in the same way
"""
import mmap
import os
import signal
import sys

offset, length = int(sys.argv[1]), int(sys.argv[2])
view = mmap.mmap(3, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset)
# mmap keeps a duplicate of its own: it goes too.
os.closerange(3, 256)


def say(text):
    os.write(1, f"{text}\n".encode())


# Blocked and waited for: a signal that comes before the wait is not lost.
commands = {signal.SIGUSR1, signal.SIGUSR2}
signal.pthread_sigmask(signal.SIG_BLOCK, commands)
say(f"mapped {os.getpid()}")
while True:
    if signal.sigwait(commands) == signal.SIGUSR1:
        say(f"sum {sum(view[:4096])}")
    elif os.fork() == 0:
        say(f"mapped {os.getpid()}")

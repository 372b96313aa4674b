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
    os.write(1, f"{text}\n".encode())  # also from signal handlers, where print may find itself half done


def fork(*_):
    if os.fork() == 0:
        say(f"mapped {os.getpid()}")


signal.signal(signal.SIGUSR1, lambda *_: say(f"sum {sum(view[:4096])}"))
signal.signal(signal.SIGUSR2, fork)
say(f"mapped {os.getpid()}")
while True:
    signal.pause()

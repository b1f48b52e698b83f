#!/usr/bin/env python3
"""Random reads, writes, zeroing, punching, mapping and syncing of one file against a copy in memory.

fsx.py FILE SECONDS [SEED]: fails at the first byte that is not what was written last. The file keeps
its size. What fsx does for filesystems, for files whose size is given.
"""
import ctypes
import os
import random
import sys
import time

path, seconds = sys.argv[1], float(sys.argv[2])
seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
print(f"seed {seed}")
r = random.Random(seed)
libc = ctypes.CDLL(None, use_errno=True)
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16

fd = os.open(path, os.O_RDWR)
size = os.fstat(fd).st_size
model = bytearray()
while len(model) < size:
    model += os.pread(fd, 1 << 20, len(model))


def place():
    at = r.randrange(size)
    if r.random() < 0.4:
        at = at // 4096 * 4096
    n = r.choice([1, 7, 512, 4096, 65536, 300000, 1 << 20, 3 << 20])
    if r.random() < 0.5:
        n = r.randrange(1, n + 1)
    return at, min(n, size - at)


def write():
    at, n = place()
    data = r.randbytes(n)
    done = 0
    while done < n:
        done += os.pwrite(fd, data[done:], at + done)
    model[at:at + n] = data


def read():
    at, n = place()
    done = 0
    while done < n:
        got = os.pread(fd, n - done, at + done)
        want = model[at + done:at + done + len(got)]
        if not got or got != want:
            bad = next((i for i in range(len(got)) if got[i] != want[i]), 0)
            sys.exit(f"wrong at {at + done + bad}, step {step}, read of {n} at {at}")
        done += len(got)


def allocate(mode):
    at, n = place()
    if libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(n)):
        sys.exit(f"fallocate {mode}: {os.strerror(ctypes.get_errno())}")
    model[at:at + n] = bytes(n)


def seek():
    at, _ = place()
    try:
        start = os.lseek(fd, at, os.SEEK_DATA)
    except OSError:
        start = size
    if any(model[at:start]):
        sys.exit(f"SEEK_DATA at {at} skips data before {start}, step {step}")


end, step = time.monotonic() + seconds, 0
while time.monotonic() < end:
    step += 1
    dice = r.random()
    if dice < 0.45:
        read()
    elif dice < 0.85:
        write()
    elif dice < 0.91:
        allocate(PUNCH_HOLE | KEEP_SIZE)
    elif dice < 0.95:
        allocate(ZERO_RANGE | KEEP_SIZE)
    elif dice < 0.98:
        seek()
    else:
        os.fsync(fd)
print(f"{step} steps")
os.close(fd)
if len(sys.argv) > 4:
    with open(sys.argv[4], "wb") as f:
        f.write(model)

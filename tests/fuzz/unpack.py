#!/usr/bin/env python3
"""Writes the image that a fuzz input stands for (harness/image.h), so that vhdtool can look at it.

usage: unpack.py INPUT FILE
"""

import os
import struct
import sys

BYTES, REPEAT = 0, 1


def pieces(raw):
    """(kind, from_end, place, bytes, covered)"""
    at = 8
    while len(raw) - at > 9:
        kind, length = raw[at], struct.unpack_from("<H", raw, at + 7)[0]
        place = int.from_bytes(raw[at + 1:at + 7], "little")
        at += 9
        covered = int.from_bytes(raw[at:at + 4], "little") if kind & 3 == REPEAT else 0
        at += 4 if kind & 3 == REPEAT else 0
        yield kind & 3, kind & 0x80, place, raw[at:at + length], covered
        at += length


def unpack(raw, fd):
    size = int.from_bytes(raw[:8], "little") & (1 << 42) - 1
    room = 1 << 20
    for kind, from_end, place, data, covered in pieces(raw):
        offset = size - place if from_end else place
        if kind == REPEAT:
            covered = min(covered, room)
            room -= covered
            data = (data * (covered // len(data) + 1))[:covered] if data else b""
        if kind in (BYTES, REPEAT) and 0 <= offset < size:
            os.pwrite(fd, data[:size - offset], offset)
    os.ftruncate(fd, size)


def main(arguments):
    if len(arguments) != 3:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    with open(arguments[1], "rb") as file:
        raw = file.read()
    fd = os.open(arguments[2], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    unpack(raw, fd)
    os.close(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

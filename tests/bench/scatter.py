"""Allocates blocks evenly over an empty dynamic VHD, in place: scatter.py FILE COUNT.

Each block gets a full bitmap and one sector of data; the rest of it stays a hole of the host file.
"""
import struct
import sys

path, count = sys.argv[1], int(sys.argv[2])
with open(path, "r+b") as f:
    footer = f.read(512)
    header = f.read(1024)
    bat_offset, = struct.unpack(">Q", header[16:24])
    entries, block_bytes = struct.unpack(">II", header[28:36])
    f.seek(0, 2)
    at = f.tell() - 512
    assert block_bytes == 2 << 20 and at % 4096 == 3584
    bat = [0xFFFFFFFF] * entries
    for i in range(count):
        bat[i * entries // count] = at // 512
        f.seek(at)
        f.write(b"\xff" * 512 + struct.pack(">Q", i) * 64)
        at += 512 + block_bytes + 3584
    f.seek(bat_offset)
    f.write(struct.pack(">%dI" % entries, *bat))
    f.truncate(at)
    f.seek(at)
    f.write(footer)

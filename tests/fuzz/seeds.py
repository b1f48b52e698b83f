#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets, made of the images of fixtures/gen, into OUTDIR.

usage: seeds.py OUTDIR

OUTDIR/image/ holds every image in the form that harness/image.h tells; OUTDIR/footer, /size, /utf,
/bat, /nbd, /virtqueue and /vhost are for the targets of plain bytes. OUTDIR/done appears last.
"""

import os
import struct
import subprocess
import sys
import tempfile

SECTOR = 512
BYTES, REPEAT = 0, 1
FROM_END = 0x80
PATTERNED = 64 << 10  # bytes of one run that are kept
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SIZES = ["0", "512", "1.5T", "2040G", "64KiB", "10MB", "9223372036854775807", "0.001953125K", "7.", "8B"]
TEXTS = ["parent.vhd", ".\\dir\\parent.vhd", "äß漢字.vhd", "\U0001f4be", "file:///a%20b/c.vhd"]


def data_ranges(fd, size):
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(fd, at, os.SEEK_HOLE)
        yield at, end
        at = end


def sectors(path):
    """(offset, bytes) of all sectors that are not zero."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        for start, end in data_ranges(fd, size):
            start -= start % SECTOR
            raw = os.pread(fd, end - start, start)
            for at in range(0, len(raw), SECTOR):
                sector = raw[at:at + SECTOR]
                if sector.strip(b"\0"):
                    yield start + at, sector
    finally:
        os.close(fd)


def period(sector):
    """The shortest part of which the sector is made again and again, if that is short."""
    for length in (1, 2, 4, 8, 16, 32, 64):
        if sector == (sector[:length] * (SECTOR // length))[:len(sector)]:
            return sector[:length]
    return None


def parts(sector):
    """(offset, bytes) of what is not zero, short gaps included."""
    start = None
    for at, byte in enumerate(sector):
        if byte:
            start = at if start is None else start
            last = at
        elif start is not None and at - last > 16:
            yield start, sector[start:last + 1]
            start = None
    if start is not None:
        yield start, sector[start:last + 1]


def piece(size, kind, offset, data, covered=None):
    place = offset
    if size - offset <= SECTOR:    # the footer goes with the end
        kind, place = kind | FROM_END, size - offset
    out = struct.pack("<B", kind) + place.to_bytes(6, "little") + struct.pack("<H", len(data))
    return out + (b"" if covered is None else struct.pack("<I", covered)) + data


def convert(path):
    size = os.path.getsize(path)
    out, run, run_end = [struct.pack("<Q", size)], None, None
    for offset, sector in sectors(path):
        unit = period(sector)
        # Patterned data: the first sector's pattern stands for all that follow it, up to a limit.
        if run and unit and offset == run_end:
            run[2] = min(run[2] + len(sector), PATTERNED)
            run_end += len(sector)
            continue
        if run:
            out.append(piece(size, REPEAT, *run))
            run = None
        if unit:
            run, run_end = [offset, unit, len(sector)], offset + len(sector)
            continue
        out += [piece(size, BYTES, offset + at, data) for at, data in parts(sector)]
    if run:
        out.append(piece(size, REPEAT, *run))
    return b"".join(out)


def write(directory, name, data):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, name), "wb") as file:
        file.write(data)


def from_images(directory, out):
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if not name.endswith(("vhd", "avhd")) or os.path.islink(path) or not os.path.isfile(path):
            continue
        seed = convert(path)
        if len(seed) < 16384:
            write(os.path.join(out, "image"), name, seed)
        with open(path, "rb") as file:
            file.seek(max(os.path.getsize(path) - SECTOR, 0))
            footer = file.read()
        if footer.startswith(b"conectix"):
            write(os.path.join(out, "footer"), name, footer)


def nbd(out):
    """What a client says, in the form that nbd.c tells: every option, and every request."""
    requests = [(0, 0, 0, 4096), (0, 0, 65536, 32768), (0, 4, 100, 100), (1, 1, 512, 4), (1, 0, 7, 3),
                (3, 0, 0, 0), (4, 0, 0, 4096), (5, 0, 0, 4096), (6, 2, 100, 5000), (6, 16, 0, 98304),
                (7, 0, 0, 98304), (7, 8, 1000, 60000), (0, 0, 98304, 1), (9, 0, 0, 0), (2, 0, 0, 0)]
    for form, magic, fmt in ((1, 0x25609513, ">IHHQQI"), (2, 0x25609513, ">IHHQQI"),
                             (3, 0x21e41c71, ">IHHQQQ")):
        text = b"".join(
            struct.pack(fmt, magic, flags | (32 if form == 3 and kind == 1 else 0), kind, 1, offset, length)
            + b"datadata"[:length if kind == 1 else 0] for kind, flags, offset, length in requests)
        for how in 0, 1, 2, 3, 16, 33, 35:
            write(os.path.join(out, "nbd"), f"{form}-{how}", bytes([how | form << 2]) + text)
    context = struct.pack(">III", 0, 1, 15) + b"base:allocation"
    options = [(8, b""), (3, b""), (5, b""), (6, struct.pack(">IHHH", 0, 2, 1, 3)), (9, struct.pack(">II", 0, 0)),
               (10, context), (11, b""), (10, context), (7, bytes(6))]
    text = struct.pack(">I", 3) + b"".join(
        b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data for number, data in options)
    for how in range(4):
        write(os.path.join(out, "nbd"), f"options-{how}", bytes([how]) + text)
    write(os.path.join(out, "nbd"), "name", b"\3\0\0\0\0IHAVEOPT\0\0\0\1\0\0\0\0")
    write(os.path.join(out, "nbd"), "abort", b"\3\0\0\0\1IHAVEOPT\0\0\0\2\0\0\0\0")


NEXT, WRITABLE, INDIRECT = 1, 2, 4


def descriptors(*rows):
    return b"".join(struct.pack("<QIHH", *row) for row in rows)


def block_request(kind, sector):
    """A table of three descriptors at 0x1800, and the header at 0x1900 that it names."""
    data = WRITABLE if kind in (0, 8) else 0
    table = descriptors((0x1900, 16, NEXT, 1), (0x1a00, 512, NEXT | data, 2), (0x1c00, 1, WRITABLE, 0))
    return table, struct.pack("<IIQ", kind, 0, sector)


def virtqueue(out):
    """A guest's memory in the form that virtqueue.c tells: a direct chain, and an indirect one."""
    table, header = block_request(0, 1)
    direct = descriptors((0x1900, 16, NEXT, 1), (0x1f00, 0x200, NEXT | WRITABLE, 2), (0x1c00, 1, WRITABLE, 0),
                         (0x1800, 48, INDIRECT, 0))
    avail = struct.pack("<HHHH", 0, 2, 0, 3)
    memory = direct.ljust(1024, b"\0") + avail.ljust(1024, b"\0")
    memory = memory.ljust(0x1800, b"\0") + table.ljust(0x100, b"\0") + header
    for features in range(4):
        write(os.path.join(out, "virtqueue"), str(features), bytes([4, features, 0, 128]) + memory)


def vhost(out):
    """What a front end says, in the form that vhost.c tells, in the order of QEMU; and its guest."""
    def message(number, payload=b"", fds=0, flags=1):
        return bytes([number, flags, len(payload), fds]) + payload

    def memory(offset, data):
        return bytes([200, offset & 255, len(data), offset >> 8]) + data

    memory_fd, kick_fd, inflight_fd = 0x01, 0x11, 0x31
    user = 0x10000
    region = struct.pack("<QQQQ", 0, 16384, user, 0)
    agree = (message(1) + message(15) + message(16, struct.pack("<Q", 0xb229)) + message(17) + message(36)
             + message(3) + message(24, struct.pack("<III", 0, 60, 0) + bytes(60)))
    inflight = struct.pack("<QQHHI", 1280, 0, 4, 16, 0)
    start = (message(8, struct.pack("<II", 0, 16)) + message(10, struct.pack("<II", 0, 0))
             + message(9, struct.pack("<IIQQQQ", 0, 0, user, user + 2048, user + 1024, 0))
             + message(14, struct.pack("<Q", 0), kick_fd) + message(12, struct.pack("<Q", 0), kick_fd)
             + message(13, struct.pack("<Q", 0), kick_fd) + message(18, struct.pack("<II", 0, 1)))
    stop = (message(25, struct.pack("<IIIB", 32, 1, 0, 0)) + message(11, struct.pack("<II", 0, 0))
            + message(38, struct.pack("<Q", 0) + region) + message(34, flags=9))
    for kind in (0, 1, 4, 8, 11, 13):
        table, header = block_request(kind, 1)
        guest = (memory(0x1800, table) + memory(0x1900, header) + memory(0, descriptors((0x1800, 48, INDIRECT, 0)))
                 + memory(1024, struct.pack("<HHH", 0, 1, 0)))
        for how in range(2):
            features = message(2, struct.pack("<Q", 1 << 32 | 1 << 30 | (1 << 29 if how else 0) | 1 << 28 | 1 << 9))
            share = message(37, struct.pack("<Q", 0) + region, memory_fd) if how else message(
                5, struct.pack("<II", 1, 0) + region, memory_fd)
            track = message(31, inflight) + message(32, inflight, inflight_fd) if how else b""
            write(os.path.join(out, "vhost"), f"{kind}-{how}", agree + features + track + share + guest + start
                  + bytes([201, 0, 0, 0]) + share + (bytes([202, 0, 0, 16]) if kind == 4 else b"") + stop)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    out = arguments[1]
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-B", os.path.join(ROOT, "fixtures/gen/make_images.py"),
                        directory], check=True)
        from_images(directory, out)
    for number, text in enumerate(SIZES):
        write(os.path.join(out, "size"), str(number), text.encode())
    for number, text in enumerate(TEXTS):
        write(os.path.join(out, "utf"), f"{number}-8", text.encode())
        write(os.path.join(out, "utf"), f"{number}-16le", text.encode("utf-16-le"))
        write(os.path.join(out, "utf"), f"{number}-16be", text.encode("utf-16-be"))
    write(os.path.join(out, "bat"), "three", bytes.fromhex("01 03 4000 01 00 03 0500 0800 ffff 0b00"))
    nbd(out)
    virtqueue(out)
    vhost(out)
    write(out, "done", b"")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

#!/usr/bin/env python3
"""An NBD client that remembers what it has written, beyond the death of the server.

nbd_load.py load SOCKET EXPORT STATE SECONDS	random reads and writes, 16 at a time, and flushes
nbd_load.py verify SOCKET EXPORT STATE		does every block hold what it must?

Each block of 4 KiB is all zeros or holds its number and a version. The state has for each block the
version that a flush has covered, and the last one that was written: what is read lies between the
two. load makes a file STATE.busy when requests have been answered, and prints how many were; when
the server goes away, it ends with status 3.
"""
import json
import os
import random
import socket
import struct
import sys
import time

OPTION, REPLY, BLOCK, DEPTH = 0x49484156454F5054, 0x3E889045565A9, 4096, 16
READ, WRITE, FLUSH = 0, 1, 3


class Client:
    def __init__(self, path, name):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(60)
        assert self.unpack(">8sQH")[:2] == (b"NBDMAGIC", OPTION)
        name = name.encode()
        option = struct.pack(">I", len(name)) + name + b"\0\0"
        self.socket.sendall(struct.pack(">IQII", 3, OPTION, 7, len(option)) + option)
        while True:
            magic, _, kind, length = self.unpack(">QIII")
            data = self.get(length)
            assert magic == REPLY and not kind & 1 << 31, (kind, data)
            if kind == 3 and data[:2] == b"\0\0":
                self.size = struct.unpack(">Q", data[2:10])[0]
            if kind == 1:
                return

    def get(self, length):
        data = bytearray()
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return bytes(data)

    def unpack(self, fmt):
        return struct.unpack(fmt, self.get(struct.calcsize(fmt)))

    def do(self, requests):
        """[(kind, block, data)]: the contents of those that read, by block."""
        out = b"".join(
            struct.pack(">IHHQQI", 0x25609513, 0, kind, cookie, block * BLOCK,
                        0 if kind == FLUSH else BLOCK) + data
            for cookie, (kind, block, data) in enumerate(requests))
        self.socket.sendall(out)
        read = {}
        for _ in requests:
            magic, error, cookie = self.unpack(">IIQ")
            assert (magic, error) == (0x67446698, 0), error
            kind, block, _ = requests[cookie]
            if kind == READ:
                read[block] = self.get(BLOCK)
        return read


def contents(block, version):
    return struct.pack("<QQ", block, version) * (BLOCK // 16) if version else bytes(BLOCK)


class State:
    def __init__(self, path, blocks):
        self.path = path
        self.flushed, self.written = [0] * blocks, [0] * blocks
        if os.path.exists(path):
            with open(path) as file:
                self.flushed, self.written = json.load(file)

    def save(self):
        with open(self.path + ".new", "w") as file:
            json.dump([self.flushed, self.written], file)
        os.rename(self.path + ".new", self.path)

    def check(self, block, data):
        number, version = struct.unpack("<QQ", data[:16])
        assert data == contents(block, version) and (number == block or not version), \
            f"block {block} holds another's data"
        assert self.flushed[block] <= version <= self.written[block], \
            f"block {block}: {self.flushed[block]} <= {version} <= {self.written[block]}"


def load(client, state, seconds):
    dice = random.Random(os.getpid())
    end, done, version = time.time() + seconds, 0, max(state.written)
    blocks = range(len(state.written))
    print("seed", os.getpid(), file=sys.stderr)
    while time.time() < end:
        requests = []
        for block in dice.sample(blocks, DEPTH):
            if dice.randrange(2):
                version += 1
                state.written[block] = version
                requests.append((WRITE, block, contents(block, version)))
            else:
                requests.append((READ, block, b""))
        for block, data in client.do(requests).items():
            # What was answered is there, flushed or not.
            assert data == contents(block, state.written[block]), f"block {block} is another"
        if not done:
            open(state.path + ".busy", "w").close()
        done += len(requests)
        if dice.randrange(8) == 0:
            client.do([(FLUSH, 0, b"")])
            state.flushed = state.written[:]
            done += 1
    return done


def main():
    what, path, name, file = sys.argv[1:5]
    client = Client(path, name)
    state = State(file, client.size // BLOCK)
    if what == "verify":
        blocks = range(len(state.written))
        for first in blocks[::DEPTH]:
            wanted = blocks[first:first + DEPTH]
            for block, data in client.do([(READ, block, b"") for block in wanted]).items():
                state.check(block, data)
        return
    try:
        print(load(client, state, float(sys.argv[5])))
    except (EOFError, ConnectionResetError, BrokenPipeError):
        state.save()
        sys.exit(3)
    client.do([(FLUSH, 0, b"")])
    state.flushed = state.written[:]
    state.save()


main()

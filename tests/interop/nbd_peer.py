#!/usr/bin/env python3
"""An NBD client that does what no library does: speaks extended headers, and misbehaves.

nbd_peer.py SOCKET extended|hostile|hold
nbd_peer.py SOCKET crowd SECONDS
nbd_peer.py SOCKET tls|tls-required PKI
"""
import os
import random
import socket
import ssl
import struct
import sys
import time

OPTION, REPLY = 0x49484156454F5054, 0x3E889045565A9
path, what = sys.argv[1], sys.argv[2]


class Client:
    def __init__(self, timeout=20):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout)
        self.socket.connect(path)

    def get(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    def unpack(self, fmt):
        return struct.unpack(fmt, self.get(struct.calcsize(fmt)))

    def greet(self, flags=3):
        assert self.unpack(">8sQH") == (b"NBDMAGIC", OPTION, 3)
        self.socket.sendall(struct.pack(">I", flags))

    def option(self, number, data=b""):
        self.socket.sendall(struct.pack(">QII", OPTION, number, len(data)) + data)
        replies = []
        while True:
            magic, echo, kind, length = self.unpack(">QIII")
            assert (magic, echo) == (REPLY, number)
            replies.append((kind, self.get(length)))
            if kind == 1 or kind & 1 << 31:
                return replies

    def go(self, name=b""):
        return self.option(7, struct.pack(">I", len(name)) + name + b"\0\0")

    def request(self, kind, offset=0, length=0, flags=0, data=b"", cookie=7):
        self.socket.sendall(
            struct.pack(">IHHQQI", 0x25609513, flags, kind, cookie, offset, length) + data)

    def start_tls(self):
        assert self.option(5) == [(1, b"")]
        context = ssl.create_default_context(cafile=sys.argv[3] + "/ca-cert.pem")
        context.load_cert_chain(sys.argv[3] + "/client-cert.pem", sys.argv[3] + "/client-key.pem")
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    def simple(self):
        magic, error, cookie = self.unpack(">IIQ")
        assert magic == 0x67446698
        return error

    def ends(self):
        try:
            while self.socket.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass


def extended():
    c = Client()
    c.greet()
    assert c.option(11)[-1][0] == 1
    assert c.option(8)[-1][0] == 0x8000000A
    query = struct.pack(">I", 0) + struct.pack(">II", 1, 15) + b"base:allocation"
    assert c.option(10, query)[-1][0] == 1
    size, flags = struct.unpack(">QH", c.go()[0][1][2:])

    def call(kind, offset, length, flags=0, data=b""):
        c.socket.sendall(
            struct.pack(">IHHQQQ", 0x21E41C71, flags, kind, 9, offset, length) + data)
        magic, flags, kind, cookie, at, length = c.unpack(">IHHQQQ")
        assert (magic, flags, cookie, at) == (0x6E8A278C, 1, 9, offset)
        return kind, c.get(length)

    data = os.urandom(100000)
    assert call(6, 0, size) == (0, b"")
    assert call(1, 4321, len(data), 32, data) == (0, b"")
    assert call(0, 4321, len(data)) == (1, struct.pack(">Q", 4321) + data)
    kind, body = call(0, size - (1 << 20), 1 << 20)
    assert (kind, body) == (2, struct.pack(">QI", size - (1 << 20), 1 << 20))
    kind, body = call(7, 0, size)
    assert kind == 6
    context, count = struct.unpack(">II", body[:8])
    runs = [struct.unpack(">QQ", body[8 + 16 * i:24 + 16 * i]) for i in range(count)]
    assert context == 1 and sum(r[0] for r in runs) == size and runs[-1][1] == 3
    assert call(4, 0, 1 << 63)[0] == 0x8001
    assert call(3, 0, 0) == (0, b"")


def hostile():
    """Handshakes and requests that are wrong in one way each, then random ones."""
    for bad in [b"\0\0\0\x80", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64,
                struct.pack(">IQII", 3, OPTION, 1, 1 << 31),
                struct.pack(">IQII", 3, OPTION, 7, 0xFFFFFFFF),
                struct.pack(">IQII", 3, OPTION + 1, 7, 0)]:
        c = Client()
        c.get(18)
        c.socket.sendall(bad)
        c.ends()
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(150):
        c = Client(timeout=0.05)  # it may wait for what will never come
        try:
            c.greet(dice.choice([1, 3]))
            for _ in range(dice.randrange(6)):
                data = dice.randbytes(dice.randrange(40))
                length = dice.choice([len(data), dice.randrange(1 << 32), 4])
                c.socket.sendall(
                    struct.pack(">QII", OPTION, dice.randrange(13), length) + data)
            if dice.randrange(2):
                c.option(dice.choice([8, 11]))
                c.go()
                for _ in range(dice.randrange(40)):
                    header = bytearray(struct.pack(
                        ">IHHQQI", 0x25609513, dice.randrange(8), dice.randrange(9),
                        dice.getrandbits(64), dice.choice([0, 4096, dice.getrandbits(64)]),
                        dice.choice([0, 1, 4096, 1 << 20, dice.getrandbits(32)])))
                    if dice.randrange(10) == 0:
                        header[dice.randrange(len(header))] ^= 1 << dice.randrange(8)
                    c.socket.sendall(header + dice.randbytes(dice.choice([0, 4096])))
        except (EOFError, OSError, AssertionError):
            pass
        c.socket.close()
    c = Client()  # it is still there, and well
    c.greet()
    c.go()
    c.request(0, 0, 512)
    assert c.simple() == 0
    c.get(512)


def crowd():
    """64 clients come, do something and vanish in the middle of it, again and again."""
    seed = int(os.environ.get("HVKIT_SEED") or int.from_bytes(os.urandom(4), "big"))
    print("HVKIT_SEED=%d" % seed, flush=True)
    dice = random.Random(seed)
    clients, end = [], time.time() + float(sys.argv[3])
    while time.time() < end:
        while len(clients) < 64:
            c = Client()
            c.greet()
            c.go()
            c.socket.settimeout(0)
            clients.append(c)
        for c in clients:
            try:
                for _ in range(dice.randrange(20)):
                    offset = dice.randrange(1 << 14) << 12
                    if dice.randrange(2):
                        c.request(0, offset, dice.choice([4096, 65536, 1 << 20]))
                    else:
                        c.request(1, offset, 4096, data=b"x" * dice.choice([4096, 4096, 100]))
                c.socket.recv(1 << 20)
            except OSError:  # it takes no more, or what we said has made no sense
                pass
        dice.shuffle(clients)
        for c in clients[:dice.randrange(64)]:
            c.socket.close()
            clients.remove(c)


def hold():
    """Asks for much and takes nothing, until it is killed."""
    c = Client()
    c.greet()
    c.go()
    c.socket.settimeout(0.2)
    try:
        while True:
            c.request(0, 0, 1 << 20)
    except TimeoutError:
        pass
    print("full", flush=True)
    time.sleep(600)


def client_hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    out = ssl.MemoryBIO()
    try:
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def tls():
    """What one may say before TLS, with it and instead of it."""
    c = Client()
    c.greet()
    assert c.option(8) == [(1, b"")]
    assert c.option(5, b"x") == [(0x80000003, b"")]
    c.start_tls()
    assert c.option(5) == [(0x80000003, b"")]
    query = struct.pack(">I", 0) + struct.pack(">II", 1, 15) + b"base:allocation"
    assert c.option(10, query) == [(0x80000003, b"")]  # structured replies are forgotten
    c.go()
    data = os.urandom(1 << 20)
    c.request(1, 12345, len(data), data=data)
    assert c.simple() == 0
    for i in range(64):  # with one packet: what is left decrypted has to be looked at, too
        c.request(0, 12345 + i * 16384, 16384, cookie=i)
    for _ in range(64):
        magic, error, i = c.unpack(">IIQ")
        assert (magic, error) == (0x67446698, 0)
        assert c.get(16384) == data[i * 16384:][:16384]
    c.request(2)
    c.ends()


def tls_required():
    for option in [3, 6, 7, 8, 9, 10, 11, 99]:
        c = Client()
        c.greet()
        assert c.option(option) == [(0x80000005, b"")]
        c.start_tls()
        assert c.go()[-1] == (1, b"")
    c = Client()
    c.greet()
    c.socket.sendall(struct.pack(">QII", OPTION, 1, 0))
    c.ends()
    c = Client()
    c.greet()
    assert c.option(2) == [(1, b"")]
    c.ends()

    # What comes along with STARTTLS may be somebody else's.
    c = Client()
    c.greet()
    c.socket.sendall(struct.pack(">QII", OPTION, 5, 0) +
                     struct.pack(">QII", OPTION, 7, 6) + bytes(6))
    assert c.socket.recv(100) == b""

    # Handshakes that break off, or make no sense.
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    dice = random.Random(seed)
    hello = client_hello()
    stalled = []
    for i in range(150):
        c = Client()
        c.greet()
        assert c.option(5) == [(1, b"")]
        c.socket.settimeout(0.03)
        bad = bytearray(hello if i % 3 else dice.randbytes(dice.randrange(1, 3000)))
        if i % 3 == 1:
            bad[dice.randrange(len(bad))] ^= 1 << dice.randrange(8)
        c.socket.sendall(bad[:dice.randrange(1, len(bad) + 1)])
        if i % 10 == 0:
            stalled.append(c)
            continue
        try:
            if dice.randrange(2):
                c.socket.recv(4096)
                c.socket.sendall(dice.randbytes(dice.randrange(1, 100)))
        except OSError:
            pass
        c.socket.close()

    # Vanishing in the middle of a record.
    c = Client()
    c.greet()
    c.start_tls()
    c.go()
    plain = socket.socket(fileno=os.dup(c.socket.fileno()))
    c.request(0, 0, 1 << 20)
    plain.sendall(b"\x17\x03\x03\x40\x00" + bytes(100))
    plain.shutdown(socket.SHUT_RDWR)

    c = Client()  # those that stall hold up nobody
    c.greet()
    c.start_tls()
    c.go()
    c.request(0, 0, 512)
    assert c.simple() == 0
    c.get(512)


{"tls": tls, "tls-required": tls_required, "extended": extended, "hostile": hostile, "crowd": crowd, "hold": hold}[what]()

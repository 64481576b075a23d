# SPDX-License-Identifier: MIT
"""Rings of the model server in selfcheck.py: a stand-in machine's domains, by its own library."""

import ctypes
import mmap
import os
import struct

RING_BYTES = 1024
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD = 2048, 2052, 2056, 2060
XENSTORE_GRANT, READ_AND_WRITE, VIRQ_DOM_EXC = 1, 3, 3


class Ring:
    """One domain's page. Goes on where the page says: the model dies only between requests."""

    def __init__(self, address, port):
        self.address = address
        self.port = port
        self.pending = bytearray()  # received, not yet whole
        self.unsent = bytearray()

    def index(self, offset):
        return ctypes.c_uint32.from_address(self.address + offset)

    def receive(self):
        cons, prod = self.index(REQ_CONS), self.index(REQ_PROD).value
        count = (prod - cons.value) % 2**32
        page = ctypes.string_at(self.address, RING_BYTES)
        self.pending += bytes(page[(cons.value + i) % RING_BYTES] for i in range(count))
        cons.value = prod

    def push(self):
        prod, cons = self.index(RSP_PROD), self.index(RSP_CONS).value
        room = RING_BYTES - (prod.value - cons) % 2**32
        page = (ctypes.c_char * RING_BYTES).from_address(self.address + RING_BYTES)
        for byte in self.unsent[:room]:
            page[prod.value % RING_BYTES] = byte
            prod.value += 1
        del self.unsent[:room]


class Rings:
    def __init__(self, library, machine_dir):
        os.environ["SIMXEN"] = machine_dir
        self.xen = ctypes.CDLL(library)
        for opener in ("xenevtchn_open", "xengnttab_open"):
            getattr(self.xen, opener).restype = ctypes.c_void_p
        self.xen.xengnttab_map_grant_ref.restype = ctypes.c_void_p
        self.events = ctypes.c_void_p(self.xen.xenevtchn_open(None, 0))
        self.grants = ctypes.c_void_p(self.xen.xengnttab_open(None, 0))
        self.fd = self.xen.xenevtchn_fd(self.events)
        self.deaths_port = self.xen.xenevtchn_bind_virq(self.events, VIRQ_DOM_EXC)
        self.rings = {}  # domid -> Ring
        with open(os.path.join(machine_dir, "xsd_kva"), "r+b") as own:
            self.own_page = mmap.mmap(own.fileno(), 0)
        with open(os.path.join(machine_dir, "xsd_port")) as own:
            port = int(own.read())
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.own_page))
        self.rings[0] = Ring(address, self.bind(0, port))

    def bind(self, domid, port):
        return self.xen.xenevtchn_bind_interdomain(self.events, domid, port)

    def map(self, domid):
        return self.xen.xengnttab_map_grant_ref(
            self.grants, domid, XENSTORE_GRANT, READ_AND_WRITE
        )

    def introduce(self, domid, port):
        self.rings[domid] = Ring(self.map(domid), self.bind(domid, port))

    def release(self, domid):
        self.xen.xenevtchn_unbind(self.events, self.rings.pop(domid).port)

    def take(self):
        """The domids with an event, and whether some domain died."""
        data = os.read(self.fd, 4096)
        ports = set(struct.unpack(f"={len(data) // 4}I", data))
        for port in ports:
            self.xen.xenevtchn_unmask(self.events, port)
        return [d for d, r in self.rings.items() if r.port in ports], self.deaths_port in ports

    def gone(self):
        return [domid for domid in self.rings if domid != 0 and self.map(domid) is None]

    def send(self, domid, data):
        ring = self.rings[domid]
        ring.unsent += data
        ring.push()
        self.xen.xenevtchn_notify(self.events, ring.port)

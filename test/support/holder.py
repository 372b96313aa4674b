"""A worker without our library: attaches over the socket by hand, maps every file, then keeps nothing but the mapping.

    python3 holder.py SOCKET MODEL

Prints one JSON line {"digest": ...} at once and again for every line on standard input: the SHA-256 of all mapped bytes.
A line "fork" forks a child that keeps the mapping alone; the parent unmaps and only waits for it.
"""
import array
import hashlib
import json
import mmap
import os
import socket
import sys


def attach(path, model):
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    peer.connect(path)
    peer.sendall(json.dumps({"v": 1, "op": "attach", "model": model}).encode() + b"\n")
    data, fds = b"", array.array("i")
    while not data.endswith(b"\n"):
        part, ancillary, _, _ = peer.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 8))
        if not part:
            sys.exit("the service closed the connection")
        data += part
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.frombytes(payload)
    answer = json.loads(data)
    if not answer["ok"]:
        sys.exit(json.dumps(answer))
    return peer, fds[0], answer["handle"]


def map_files(fd, handle):
    align = handle["region"]["mapAlignment"]
    views = []
    for file in handle["buffers"][0]["files"]:
        for extent in file["extents"]:
            start = extent["bufferOffset"] // align * align
            head = extent["bufferOffset"] - start
            length = -(-(head + extent["length"]) // align) * align
            view = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=start)
            views.append((view, head, extent["length"]))
    return views


def digest(views):
    total = hashlib.sha256()
    for view, head, length in views:
        total.update(memoryview(view)[head : head + length])
    return json.dumps({"digest": total.hexdigest(), "pid": os.getpid()})


peer, fd, handle = attach(sys.argv[1], sys.argv[2])
views = map_files(fd, handle)
os.close(fd)
peer.close()
print(digest(views), flush=True)
for line in sys.stdin:
    if line.strip() == "fork":
        child = os.fork()
        if child != 0:
            for view, _, _ in views:
                view.close()
            os.waitpid(child, 0)
            os._exit(0)
    print(digest(views), flush=True)

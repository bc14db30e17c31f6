"""Two processes at the two ends of multiprocessing's Pipe, told what to do by a line each.

Arguments: this process's CPU, the other one's, bytes of a message, whether they are touched.
Lines: `rtt N`, `stream N`, `burst N`, or `paced N NANOSECONDS`; answered by nanoseconds.
"""

import ctypes
import os
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Pipe

BURST = 100


def die_with(parent):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def message(stamp, size, touched):
    """Every byte of it is new; untouched, it is always the same one."""
    return stamp.to_bytes(8, "little") * (size // 8) if touched else bytes(size)


def serve(parent, cpu, conn, size, touched):
    die_with(parent)
    os.sched_setaffinity(0, {cpu})
    idle = bytes(size)
    while True:
        work, count = conn.recv()
        conn.send(None)
        if work == "echo":
            for _ in range(count):
                got = conn.recv_bytes()
                conn.send_bytes(check(got, size, touched) if touched else idle)
        else:
            lots, lot = (count, BURST) if work == "burst" else (1, count)
            for _ in range(lots):
                for _ in range(lot):
                    got = conn.recv_bytes()
                    if touched:
                        check(got, size, touched)
                conn.send_bytes(got if touched else idle)


def check(got, size, touched):
    """Reads all of it, and makes it anew."""
    again = message(int.from_bytes(got[:8], "little"), size, touched)
    if got != again:
        sys.exit("a message is not as it was sent")
    return again


def main():
    cpu, other, size = (int(word) for word in sys.argv[1:4])
    touched = sys.argv[4] == "touched"
    idle = bytes(size)
    conn, theirs = Pipe()
    child = get_context("fork").Process(
        target=serve, args=(os.getpid(), other, theirs, size, touched), daemon=True
    )
    child.start()
    theirs.close()
    os.sched_setaffinity(0, {cpu})
    clock = time.perf_counter_ns
    stamp = 0

    def order(work, count):
        conn.send((work, count))
        conn.recv()

    def round_trip():
        nonlocal stamp
        stamp += 1
        sent = message(stamp, size, touched) if touched else idle
        conn.send_bytes(sent)
        got = conn.recv_bytes()
        if touched and got != sent:
            sys.exit("the echo differs")

    def send(count):
        nonlocal stamp
        for _ in range(count):
            stamp += 1
            conn.send_bytes(message(stamp, size, touched) if touched else idle)

    def answer():
        got = conn.recv_bytes()
        if touched and int.from_bytes(got[:8], "little") != stamp:
            sys.exit("a message is missing")

    print("ready", flush=True)
    for line in sys.stdin:
        work, count, *period = line.split()
        count = int(count)
        if work == "paced":
            order("echo", count)
            took = []
            start = clock()
            for i in range(1, count + 1):
                left = start + i * int(period[0]) - clock()
                time.sleep(max(left, 0) / 1e9)
                before = clock()
                round_trip()
                took.append(clock() - before)
            print(*took, flush=True)
            continue
        order({"rtt": "echo"}.get(work, work), count)
        before = clock()
        if work == "rtt":
            for _ in range(count):
                round_trip()
        elif work == "stream":
            send(count)
            answer()
        else:
            for _ in range(count):
                send(BURST)
                answer()
        print(clock() - before, flush=True)
    os._exit(0)


main()

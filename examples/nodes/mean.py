"""The mean of what several nodes have, brought to each of them through the first."""

import os
import socket
import time

RANK, COUNT = int(os.environ["NODE_RANK"]), int(os.environ["NNODES"])
ADDRESS = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])


def connect() -> socket.socket:
    """A connection to the first node, which may have yet to listen."""
    for _ in range(600):
        try:
            return socket.create_connection(ADDRESS)
        except ConnectionRefusedError:
            time.sleep(0.1)
    raise SystemExit(f"{ADDRESS} refuses connections")


def average(value: float) -> float:
    """The mean of the values with which all nodes call this."""
    if RANK:
        with connect() as peer, peer.makefile("rw") as stream:
            print(value, file=stream, flush=True)
            return float(stream.readline())
    with socket.create_server(("", ADDRESS[1])) as server:
        streams = [server.accept()[0].makefile("rw") for _ in range(COUNT - 1)]
    mean = (value + sum(float(stream.readline()) for stream in streams)) / COUNT
    for stream in streams:
        print(mean, file=stream, flush=True)
    return mean


for step in range(3):
    ADDRESS = ADDRESS[0], ADDRESS[1] + 1  # a port that no step before has used
    print(f"node {RANK} of {COUNT}, step {step}: the mean is {average(RANK * 10 + step)}")

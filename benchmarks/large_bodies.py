"""How long other users wait while clients send 16 MB of CSI of the wrong shape.

``python -m benchmarks.large_bodies URL CELL`` posts such bodies to a running service, none, one and eight at once, and
asks for the artifacts in service (`GET /models`) meanwhile, every 2 ms. It prints the longest wait of each round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from base64 import b64encode

import httpx
import numpy as np

SIDE = 1216  # antennas and subcarriers: 11.8 MB of complex64, 15.8 MB of base64
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("cell")
    arguments = parser.parse_args()
    data = b64encode(np.ones((SIDE, SIDE), np.complex64).tobytes()).decode()
    csi = {"encoding": "complex64", "shape": [SIDE, SIDE], "data": data}
    body = json.dumps({"cellId": arguments.cell, "csi": csi}).encode()
    with httpx.Client(base_url=arguments.url, timeout=60) as client:
        for senders in (0, 1, 8):
            waits = [longest_wait(client, arguments.url, body, senders) for _ in range(ROUNDS)]
            print(f"{senders} large bodies at once: the longest wait of another user is {np.median(waits):.0f} ms")


def longest_wait(client: httpx.Client, url: str, body: bytes, senders: int) -> float:
    """Milliseconds. The senders are processes: threads would delay the client that measures."""
    processes = [multiprocessing.Process(target=send, args=(url, body)) for _ in range(senders)]
    for process in processes:
        process.start()
    waits, end = [], time.perf_counter() + 0.3
    while any(process.is_alive() for process in processes) or time.perf_counter() < end:
        started = time.perf_counter()
        client.get("/models")
        waits.append(1000 * (time.perf_counter() - started))
        time.sleep(0.002)
    return max(waits)


def send(url: str, body: bytes) -> None:
    httpx.post(f"{url}/locate", content=body, headers={"Content-Type": "application/json"}, timeout=60)


if __name__ == "__main__":
    main()

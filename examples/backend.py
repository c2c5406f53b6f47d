"""A back end: locates all users of a cell at once, twice a second, each within half a second or not at all."""

import os
import sys
import time
from pathlib import Path

from fingerpost import Client, ClientError, CoarsePosition, Problem, build_locate_request
from reference_db import read_fingerprint_file

PERIOD_S, USERS = 0.5, 50
url, file = sys.argv[1:]
cell, measured = read_fingerprint_file(Path(file))  # stands for your base station: 50 users in each half second

with Client(url, os.environ.get("FINGERPOST_KEY")) as client:  # tries four times, within the deadline of the users
    for first in range(0, len(measured.csi), USERS):
        started, requests = time.monotonic(), {}
        for user in range(first, min(first + USERS, len(measured.csi))):
            x, y = measured.positions[user].tolist()
            fix, csi = CoarsePosition(x=x, y=y, h_accuracy=1.0), measured.csi[user]
            try:
                requests[user] = build_locate_request(cell.cell_id, csi, fix, max_resp_time=PERIOD_S)
            except ValueError as error:  # this snapshot has NaN or another shape
                print(f"user {user}: {error}", file=sys.stderr)
        try:
            answers = client.locate_batch(list(requests.values()))
        except ClientError as error:  # the service is away: the next snapshots may find it again
            print(f"nobody located: {error}", file=sys.stderr)
            answers = []
        for user, answer in zip(requests, answers, strict=False):
            if isinstance(answer, Problem):  # the answer came too late, or this snapshot is not of this cell
                print(f"user {user}: {answer.cause}: {answer.detail}", file=sys.stderr)
            else:
                print(f"user {user}: {answer.location_estimate.point}, {answer.h_accuracy:.2f} m")
        time.sleep(max(0.0, started + PERIOD_S - time.monotonic()))

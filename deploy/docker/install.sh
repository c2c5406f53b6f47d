#!/bin/sh
# install.sh FOLDER EXTRAS: puts Fingerpost from the current directory, with those extras of pyproject.toml, into a new
# virtual environment, and nothing that could install more. The images are made by it, and a test installs by it.
set -eu
folder=$1 extras=$2

python3 -m venv --without-pip "$folder"
python3 -m pip --disable-pip-version-check --python "$folder/bin/python3" install --quiet \
    --constraint constraints.txt ".[$extras]"

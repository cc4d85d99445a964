#!/bin/sh
# Everything that is pinned, and this package, into the environment of the Python that is named. No package is built with
# anything but the pinned build tools: sh requirements/install.sh .venv/bin/python
set -eu
cd "$(dirname "$0")/.."
python=$1
uv="$(dirname "$("$python" -c 'import sys; print(sys.executable)')")/uv"
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/uv.txt
"$uv" pip install --quiet --python "$python" --require-hashes --only-binary :all: -r requirements/build.txt
"$uv" pip sync --quiet --compile-bytecode --python "$python" --require-hashes --no-build-isolation \
    requirements/lock.txt requirements/build.txt requirements/uv.txt
"$uv" pip install --quiet --python "$python" --no-deps --no-build-isolation --editable .

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
# DVC keeps pickled records in /var/tmp/dvc, where every account of a machine may replace them (CVE-2025-69872): here they
# lie in a folder that others cannot enter; a group keeps its access where it may write to the project anyway.
records="$PWD/.dvc/tmp/site_cache"
if [ -d .dvc ]; then
    mkdir -p "$records"
    chmod o-rwx "$records"
    find "$records" -prune ! -perm -020 -exec chmod g-rwx {} +
    "$(dirname "$uv")/dvc" config --quiet --local core.site_cache_dir "$records"
fi

#!/bin/sh
# Makes .venv: a virtual environment with what building and testing need, from the package index.
# Says in one sentence what to install where something of the system is missing.
#
#     [PYTHON=python3] tools/setup.sh
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "setup: $1" >&2
    exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

has "$python" || fail "no $python here; install the package python3 (3.10 or later)."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is too old, 3.10 or later is needed; name another with PYTHON=..."
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "$python cannot make virtual environments; install the package python3-venv."
"$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ||
    fail "the header Python.h of $python is missing; install the package python3-dev."
has "${CC:-cc}" || fail "no C compiler here; install the packages gcc and libc6-dev."

# An environment that no longer runs (moved, or its Python is gone) is made anew.
.venv/bin/python -c 'import pip' 2>/dev/null || "$python" -m venv --clear .venv

# Everything under the constraints, torch first: nothing after it can bring another one.
install=".venv/bin/python -m pip install --quiet --disable-pip-version-check -c dev-constraints.txt"
$install torch
$install -r dev-requirements.txt

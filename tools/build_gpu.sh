#!/bin/sh
# Builds the Python package into build/gpu/package/python for the Python that is there, without a virtual
# environment and without a network: for machines with a GPU, whose Python brings its own PyTorch.
#
#     [PYTHON=python3] tools/build_gpu.sh
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
tree=build/gpu
mkdir -p $tree

fail() {
    echo "build_gpu: $1" >&2
    exit 1
}
# A program of the path, or of a Python package of that name.
find_tool() {
    command -v "$1" && return
    "$python" -c "import sys, $1; print($1.${2} + '/$1')" 2>/dev/null ||
        fail "no $1 here; install the package $1 of the system or of $python."
}

"$python" -c 'import torch' 2>/dev/null || fail "$python has no PyTorch."
"$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null ||
    fail "the header Python.h of $python is missing; install the package python3-dev."
cmake=$(find_tool cmake CMAKE_BIN_DIR)
ninja=$(find_tool ninja BIN_DIR)

"$cmake" -S . -B $tree -G Ninja -DCMAKE_MAKE_PROGRAM="$ninja" -DSEGUE_BUILD_PYTHON=ON \
    -DSEGUE_BUILD_TESTS=OFF -DPython_EXECUTABLE="$(command -v "$python")" >$tree/cmake.log 2>&1 ||
    { cat $tree/cmake.log >&2; fail "cmake refused (see above)."; }
"$cmake" --build $tree --target segue_python sgc

# The folder is called python: the package then knows itself to be of a working tree.
rm -rf $tree/package
mkdir -p $tree/package/python
cp -r python/segue $tree/package/python/
rm -f $tree/package/python/segue/*.[ch]
cp -r examples $tree/package/python/segue/
cp $tree/python/_core*.so $tree/package/python/segue/

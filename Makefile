# make demo      sets everything up and shows what Segue does
# make test      sets everything up and runs every check and test
#
# make build     the wheel, installed into .venv
# make lint      the checks alone: include direction, format, ruff, mypy, clang-tidy
# make sanitize  the C tests under AddressSanitizer and UndefinedBehaviorSanitizer
# make format    rewrites the sources in the house's format
# make gallery   remakes the example models' emitted files
# make bench     the C benchmarks
# make test-gpu  builds for the Python that is there, with its PyTorch, and runs the GPU tests
# make bench-gpu the same, and measures the four models into bench/results/CARD
# make clean     removes what was built; the virtual environment stays
#
# PYTHON names the Python to start from, CC the compiler.

PYTHON ?= python3
MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

bin := .venv/bin
# cmake, ninja, clang-tidy and the others come from the virtual environment; its Python does not.
system_path := $(PATH)
export PATH := $(CURDIR)/$(bin):$(PATH)

library_files := $(shell find include src kernels cmake tools CMakeLists.txt)
package_files := $(shell find python examples -not -path '*/__pycache__*') pyproject.toml LICENSE
test_files := $(shell find tests/c tests/cuda bench/) # bench/, for bench is a target
c_files := $(shell find include src kernels python tools tests/c tests/cuda bench/ examples \
    -name '*.[ch]')

heading = @printf '\n==== %s\n' '$(1)'

.PHONY: demo build test lint lint-quick lint-clang-tidy pytest sanitize format gallery bench clean \
    test-gpu bench-gpu

demo: build
	$(call heading,demo)
	@$(bin)/python -m segue demo

build: build/release/installed

test:
	@$(MAKE) lint-quick
	@$(MAKE) build/test/installed build/sanitize/built
	@$(MAKE) lint-clang-tidy
	@$(MAKE) pytest

# ---- set-up, each step done again when what it depends on has changed ----------------------------
.venv/ready: tools/setup.sh dev-requirements.txt dev-constraints.txt
	$(call heading,virtual environment)
	@PATH='$(system_path)' PYTHON='$(PYTHON)' tools/setup.sh
	@touch $@

# Two trees, so that neither a warning nor a broken test keeps anyone from the wheel.
# $(1): CMake definitions; $(2): targets. The wheel is built in the tree of $@ and installed.
define install_wheel
	@rm -f build/*/installed
	@SKBUILD_BUILD_DIR='$(@D)' SKBUILD_CMAKE_DEFINE='$(1)' SKBUILD_BUILD_TARGETS='$(2)' \
	    $(bin)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation \
	    --no-deps --force-reinstall .
	@touch $@
endef

build/release/installed: .venv/ready $(library_files) $(package_files) CMakeLists.txt
	$(call heading,build and install the wheel)
	$(call install_wheel,SEGUE_BUILD_TESTS=OFF,segue_python)

build/test/installed: .venv/ready $(library_files) $(package_files) $(test_files)
	$(call heading,build the library$(comma) its tests and the wheel$(comma) warnings as errors)
	$(call install_wheel,SEGUE_BUILD_TESTS=ON;SEGUE_WERROR=ON,all)

build/sanitize/built: .venv/ready $(library_files) $(test_files)
	$(call heading,build the library and its tests with sanitizers)
	@cmake -S . -B $(@D) -G Ninja -DCMAKE_BUILD_TYPE=Debug -DSEGUE_SANITIZE=ON >/dev/null
	@cmake --build $(@D) --target sgc segue_unit
	@touch $@

comma := ,

# ---- checks --------------------------------------------------------------------------------------
lint: lint-quick build/test/installed
	@$(MAKE) lint-clang-tidy

lint-quick: .venv/ready
	$(call heading,include direction)
	@$(bin)/python tests/check_includes.py
	$(call heading,clang-format)
	@clang-format --dry-run -Werror $(c_files)
	$(call heading,ruff)
	@ruff check
	@ruff format --check
	$(call heading,mypy)
	@mypy

lint-clang-tidy: .venv/ready
	$(call heading,clang-tidy)
	@$(bin)/python tests/run_clang_tidy.py build/test

pytest: build/test/installed build/sanitize/built
	$(call heading,C units$(comma) text cases and Python tests)
	@$(bin)/python -m pytest --build-dir=build/test --build-dir=build/sanitize

sanitize: build/sanitize/built
	$(call heading,C units and text cases with sanitizers)
	@$(bin)/python -m pytest --build-dir=build/sanitize tests/python/test_c_units.py tests/cases

format: .venv/ready
	clang-format -i $(c_files)
	ruff check --fix --exit-zero
	ruff format

gallery: build
	@set -e; for model in examples/*.py; do \
	    $(bin)/python -m segue compile "$$model" -o "gallery/$${model#examples/}" --gpu sm_90a \
	        --figures bench/results/nvidia-h200/results.json; done

bench: build/test/installed
	@set -e; for program in build/test/segue_bench_*; do \
	    printf '\n==== %s\n' "$$program"; "$$program"; done

# ---- on a machine with a GPU ---------------------------------------------------------------------
# Its own Python and tools, no virtual environment, no network. SEGUE_COMMIT names the commit where
# the tree came without its history.
gpu_run = PATH='$(system_path)' PYTHONPATH='$(CURDIR)/build/gpu/package/python' $(PYTHON)

test-gpu:
	@PATH='$(system_path)' PYTHON='$(PYTHON)' tools/build_gpu.sh
	@$(gpu_run) -m pytest tests/gpu $(PYTEST_FLAGS)

bench-gpu:
	@PATH='$(system_path)' PYTHON='$(PYTHON)' tools/build_gpu.sh
	@card=$$($(gpu_run) -c 'import torch; print(torch.cuda.get_device_name())' | \
	    tr 'A-Z ' 'a-z-') && $(gpu_run) -m segue bench --device cuda \
	    --report "bench/results/$$card" examples/*.py

clean:
	rm -rf build dist

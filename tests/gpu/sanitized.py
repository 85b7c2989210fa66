"""Runs cases from a JSON file with nothing but Segue's extension and the CUDA driver.

    sanitized.py EXTENSION CASES.json

For compute-sanitizer: every tensor has an allocation of its own of just the bytes it spans, so that
whatever is read or written outside shows, and no kernel of others runs.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import random
import struct
import sys
from typing import Any

SIZES = {"f16": 2, "bf16": 2, "f32": 4, "f64": 8}
POISON = 0xFF  # bytes of NaN in every format
driver = ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: Any) -> None:
    """A function of the driver, which must succeed."""
    status = getattr(driver, name)(*arguments)
    if status != 0:
        raise SystemExit(f"{name} failed with {status}")


def span(layout: list[Any], offset: int) -> int:
    """Elements from the start of the allocation to the last of the tensor."""
    _, sizes, strides = layout
    return offset + 1 + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))


def upload(count: int, dtype: str) -> int:
    """A new allocation of random numbers; its address."""
    size = SIZES[dtype]
    address = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(count * size))
    kind = {"f16": "e", "f32": "f", "f64": "d"}.get(dtype)
    pattern = [random.uniform(-1, 1) for _ in range(997)]
    if kind is None:  # bf16: the upper halves of float32
        one = b"".join(struct.pack("<f", x)[2:] for x in pattern)
    else:
        one = struct.pack(f"<997{kind}", *pattern)
    data = (one * (count // 997 + 1))[: count * size]
    call("cuMemcpyHtoD_v2", address, data, ctypes.c_size_t(len(data)))
    return address.value


def blank(size: int) -> int:
    """A new allocation full of NaN; its address."""
    address = ctypes.c_uint64()
    call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
    call("cuMemsetD8_v2", address, ctypes.c_ubyte(POISON), ctypes.c_size_t(max(size, 1)))
    return address.value


def run(core: Any, case: dict[str, Any]) -> None:
    """Builds and launches one case, and waits for it."""

    def layouts(key: str) -> Any:
        given = case[key]
        return given and [(d, tuple(n), tuple(s)) for d, n, s in given]

    program = core.Program(
        core.Graph(case["text"]),
        layouts("inputs"),
        layouts("outputs"),
        always=True,
        gpu="0",
        precision=case["precision"],
        alignment=case["alignment"],
        strategy=case["strategy"],
    )
    program.build(0)
    offset = case["offset"]
    bases = [upload(span(x, offset), x[0]) for x in case["inputs"]]
    inputs = [base + offset * SIZES[x[0]] for base, x in zip(bases, case["inputs"], strict=True)]
    outputs = [blank(span(list(x), 0) * SIZES[x[0]]) for x in program.outputs]
    scratch = blank(program.workspace) if program.workspace else 0
    program.launch(0, 0, inputs, outputs, scratch)
    call("cuCtxSynchronize")
    for address in (*bases, *outputs, *([scratch] if scratch else [])):
        call("cuMemFree_v2", ctypes.c_uint64(address))


def main() -> None:
    """Runs every case of the file."""
    extension, request = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("segue._core", extension)
    assert spec is not None
    assert spec.loader is not None
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    with open(request, encoding="utf-8") as file:
        read = json.load(file)
    if read["nvrtc"]:
        core.set_nvrtc(read["nvrtc"])
    call("cuInit", 0)
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    random.seed(0)
    for case in read["cases"]:
        run(core, case)
    print(f"{len(read['cases'])} cases ran")


if __name__ == "__main__":
    main()

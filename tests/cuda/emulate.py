"""Runs the kernels of a strategy on the host, through emulator.h: correctness without a GPU.

A skeleton's functions of assembly are exchanged for calls of the emulator; everything else of the
source is compiled as it is. The program `segue_launches` says what is launched.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpu_cases
from gpu_cases import DTYPES, Case

HERE = Path(__file__).resolve().parent
PRECISIONS = {"fp32": 0, "tf32": 1, "tf32_even": 2}
PROCESSORS = 3
SECONDS = 120
EMPTY = (
    "pin copy_async_wait griddepcontrol_wait cp_async_commit cp_async_wait fence_proxy_async "
    "wgmma_fence wgmma_commit wgmma_wait"
)
ALIGNED = 'if ((uintptr_t)({0}) % {1}) emu_fail("an address is off its alignment"); '
# What stands in the place of a function's body.
BODIES = {
    **dict.fromkeys(EMPTY.split(), ""),
    "widen": "return emu_half(x.bits);",
    "half_value": "return emu_half(half);",
    "to_half": "half_t made; made.bits = emu_to_half(narrow(x)); return made;",
    "to_bfloat": "bfloat_t made; made.bits = emu_to_bfloat(narrow(x)); return made;",
    "v_min": "return emu_min_nan(a, b);",
    "v_max": "return emu_max_nan(a, b);",
    "max_magnitude": "return emu_max_nan(largest, fabsf(x));",
    "opaque": "return value;",
    "inverse_near": "return 1.0f / x;",
    "cp_async_16": ALIGNED.format("from", 16) + "memset(emu_at(to), 0, 16); "
    "memcpy(emu_at(to), from, bytes);",
    "cp_async_4": "memset(emu_at(to), 0, 4); memcpy(emu_at(to), from, bytes);",
    "load_pair": "memcpy(&x, emu_at(address), 4); memcpy(&y, emu_at(address + 4), 4);",
    "load_low_half": "unsigned short low; memcpy(&low, emu_at(address), 2); return low;",
    "pack_truncated": "return emu_pair(emu_to_half_rz(low), emu_to_half_rz(high));",
    "thread_index": "return threadIdx.x;",
    "unforeseen": "return x;",
    "moved": "return x;",
    "barrier_or": "return emu_bar_or(number, WARPGROUP, mine);",
    "barrier_sync": "emu_bar_sync(number, threads);",
    "barrier_meet": "emu_bar_sync(number, threads);",
    "barrier_arrive": "emu_bar_in(number, threads);",
    "mma_tf32": "emu_mma<0>(sums, a0, a1, a2, a3, b0, b1);",
    "mma_half": "emu_mma<1>(sums, a0, a1, a2, a3, b0, b1);",
    "mma_bfloat": "emu_mma<2>(sums, a0, a1, a2, a3, b0, b1);",
    "mma_double": "const double a[] = {a0, a1, a2, a3}, b[] = {b0, b1}; "
    "emu_mma_double<16, 8>(sums, a, b);",
    "mma_double_4": "double sums[] = {sum0, sum1}; emu_mma_double<8, 4>(sums, &a, &b); "
    "sum0 = sums[0], sum1 = sums[1];",
    "copy_async_4": "memset(to, 0, 4); memcpy(to, from, bytes);",
    "copy_async_8": ALIGNED.format("to", 8) + "memset(to, 0, 8); memcpy(to, from, bytes);",
    "copy_async_16": ALIGNED.format("to", 16) + "memset(to, 0, 16); memcpy(to, from, bytes);",
    "cp_async_if": "float v = present ? *from : 0.0f; memcpy(to, &v, 4);",
    "cp_async_bulk": "emu_bulk(to, from, bytes, barrier);",
    "mbarrier_init": "emu_mb_init(barrier, arrivals);",
    "mbarrier_arrive": "emu_mb_arrive(barrier);",
    "mbarrier_arrive_expect_tx": "emu_mb_expect(barrier, bytes);",
    "mbarrier_wait": "emu_mb_wait(barrier, parity);",
    "load_if": "if (present) return __ldg(from); return {};",
    "load_4_bytes_if": "if (present) return __ldg((const unsigned *)from); return {};",
    "load_8_bytes_if": "if (present) return __ldg((const uint2 *)from); return {};",
    "load_16_bytes_if": "if (present) return __ldg((const uint4 *)from); return {};",
    "load_four_if": "if (!present) return make_float4(0, 0, 0, 0); "
    + ALIGNED.format("from", 16)
    + "return make_float4(from[0], from[1], from[2], from[3]);",
    "store_four": ALIGNED.format("to", 16)
    + "to[0] = from.x; to[1] = from.y; to[2] = from.z; to[3] = from.w;",
    "load_four": ALIGNED.format("from", 16)
    + "return make_float4(from[0], from[1], from[2], from[3]);",
    "store_if": "if (present) *to = float(value);",
    "round_tf32_away": "return emu_rna(x);",
    "round_half": "return emu_to_half(x);",
    "pack_halves": "return emu_pair(emu_to_half(low), emu_to_half(high));",
    "pack_bfloats": "return emu_pair(emu_to_bfloat(low), emu_to_bfloat(high));",
    "store_four_matrices": "emu_store_matrices(row, {a, b, c, d});",
    "store_two_matrices": "emu_store_matrices(row, {a, b});",
    "pack_halves_away": "const unsigned add = (6u << 23) + 0x1000u; return emu_pair("
    "emu_to_half_rz(__uint_as_float(__float_as_uint(low) + add)), "
    "emu_to_half_rz(__uint_as_float(__float_as_uint(high) + add)));",
    "pack_operands": "return emu_pair(emu_to_half_rz(low), emu_to_half_rz(high));",
    "remainder": "return pack_halves((low - emu_half((unsigned short)halves)) * 2048.0f, "
    "(high - emu_half((unsigned short)(halves >> 16))) * 2048.0f);",
}
# The same for assembly in the middle of a function: what it contains, what stands instead.
STATEMENTS = {
    "griddepcontrol": "(void)0",
    "setmaxnreg": "(void)0",
    "prefetch.global": "(void)0",
    "cp.async.commit_group": "(void)0",
    "cp.async.wait_group": "(void)0",
    "wait_all": "(void)0",
    '("" :': "(void)0",
    "cp.async.ca.shared.global": "memcpy(emu_at(raw + i * 4), from, 4)",
}


def closing(text: str, start: int, pair: str) -> int:
    """The index behind the bracket that closes the one at start."""
    depth = 0
    for index in range(start, len(text)):
        depth += {pair[0]: 1, pair[1]: -1}.get(text[index], 0)
        if depth == 0:
            return index + 1
    raise ValueError("a bracket is never closed")


def _body(name: str, signature: str, text: str) -> str | None:
    if name == "wgmma":
        columns = re.search(r"m64n(\d+)k16", text)
        assert columns
        bfloat = str("bf16" in text).lower()
        return f"emu_wgmma<{columns.group(1)}, {bfloat}>(d, a, b, accumulate);"
    if name == "put_pair":
        return ALIGNED.format("to", 8) + "if (wanted) { to[0] = x; to[1] = y; }"
    if name == "store_pair":
        return ALIGNED.format("to", 8) + "if (wanted) { to[0] = first; to[1] = second; }"
    if name == "store_vector":
        four = "float w" in signature
        stores = "to[0] = x; to[1] = y;" + (" to[2] = z; to[3] = w;" if four else "")
        return ALIGNED.format("to", 16 if four else 8) + stores
    return BODIES.get(name)


def host_source(source: str, entry: str) -> str:
    """C++ for the host; ValueError where there is assembly that it does not know."""
    text = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    # Braces within strings are no blocks.
    text = re.sub(
        r'"(?:[^"\\]|\\.)*"', lambda m: m.group().replace("{", "<").replace("}", ">"), text
    )
    while found := re.search(r"\basm\b", text):
        function = text.rfind("__device__", 0, found.start())
        opening = text.index("{", function)
        signature, end = text[function:opening], closing(text, opening, "{}")
        named = re.search(r"(\w+)\s*\(", signature.removeprefix("__device__ __forceinline__"))
        body = _body(named.group(1), signature, text[opening:end]) if named else None
        if body is not None and end > found.start():
            text = text[:opening] + "{" + body + "}" + text[end:]
            continue
        end = closing(text, text.index("(", found.start()), "()")
        statement = text[found.start() : end]
        instead = [new for part, new in STATEMENTS.items() if part in statement]
        if not instead:
            raise ValueError(f"the emulator does not know {statement}")
        text = text[: found.start()] + instead[0] + text[end:]
    text = re.sub(
        r"extern __shared__ (?:__align__\(\d+\) )?([\w ]+?) (\w+)\[\];",
        r"\1 *\2 = reinterpret_cast<\1 *>(emu_shared);",
        text,
    )
    text = text.replace("__shared__ ", "static ").replace('extern "C" ', "")
    return f'#include "emulator.h"\n{text}\n#define ENTRY {entry}\n#include "emulator_main.h"\n'


@dataclass
class Emulator:
    """Compiles kernels once each and runs them."""

    launches: Path  # the program segue_launches
    compiler: str
    directory: Path
    gpu: str = "sm_90a"
    built: dict[str, Path] = field(default_factory=dict)

    def build(self, source: str, entry: str) -> Path:
        """The program of one kernel."""
        if source not in self.built:
            program = self.directory / f"kernel{len(self.built)}"
            text = program.with_suffix(".cpp")
            text.write_text(host_source(source, entry))
            flags = (
                "-std=c++20 -O1 -w -fwrapv -ffp-contract=off -fno-strict-aliasing "
                "-fsanitize=alignment -fno-sanitize-recover"
            )
            command = [self.compiler, *flags.split(), f"-I{HERE}", str(text), "-o", str(program)]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stderr[:2000]
            self.built[source] = program
        return self.built[source]

    def plan(self, case: Case, strategy: str, pick: int, outputs: list[Any]) -> str:
        """Writes the sources of the plan numbered pick, and says what is launched; LookupError,
        with the reason, where the strategy has no such plan."""
        (self.directory / "graph").write_text(case.text)
        strides = [" ".join(map(str, layout[2])) for layout in [*case.inputs, *outputs]]
        (self.directory / "layouts").write_text("\n".join(strides))
        words = [strategy, PRECISIONS[case.template.precision], case.alignment, pick, PROCESSORS]
        said = subprocess.run(
            [str(self.launches), *map(str, words), str(self.directory), self.gpu],
            capture_output=True,
            text=True,
            check=False,
        )
        if said.returncode == 2:
            raise LookupError(said.stdout.strip())
        assert said.returncode == 0, said.stderr
        return said.stdout

    def run(self, case: Case, strategy: str, pick: int, inputs: list[Tensor]) -> list[Tensor] | str:
        """Results of a case by the plan numbered pick; or why the strategy does not take it."""
        outputs = case.outputs or [
            (case.template.dtype, tuple(y.shape), gpu_cases.contiguous(tuple(y.shape)))
            for y in gpu_cases.truth(case, inputs)
        ]
        try:
            launches = self.plan(case, strategy, pick, outputs)
        except LookupError as reason:
            return str(reason)
        memory = _Memory()
        places: dict[int, list[int]] = {1: [], 2: []}
        for tensor, (dtype, sizes, stride) in zip(inputs, case.inputs, strict=True):
            span = gpu_cases.span((dtype, sizes, stride), case.offset)
            flat = torch.as_strided(tensor, (span,), (1,), 0).contiguous()
            places[1].append(memory.put(flat) + case.offset * flat.itemsize)
        for dtype, sizes, stride in outputs:
            span = gpu_cases.span((dtype, sizes, stride), 0)
            places[2].append(memory.put(torch.full((span,), torch.nan, dtype=DTYPES[dtype])))
        self._launch(launches.splitlines(), places, memory)
        results = []
        for (dtype, sizes, stride), place in zip(outputs, places[2], strict=True):
            span = gpu_cases.span((dtype, sizes, stride), 0)
            flat = torch.frombuffer(memory.bytes, dtype=DTYPES[dtype], count=span, offset=place)
            results.append(flat.clone().as_strided(sizes, stride))
        return results

    def _launch(self, lines: list[str], places: dict[int, list[int]], memory: _Memory) -> None:
        count, workspace = map(int, lines[0].split())
        work = memory.put(torch.full((workspace,), 255, dtype=torch.uint8))
        at = 1
        for number in range(count):
            entry, grid, threads, word_count = lines[at].split()
            words = [tuple(map(int, x.split())) for x in lines[at + 1 : at + 1 + int(word_count)]]
            at += 1 + int(word_count)
            if grid == "0":
                continue
            program = self.build((self.directory / f"{number}.cu").read_text(), entry)
            values = [
                f"0 {n}" if kind == 0 else f"1 {work + n if kind == 3 else places[kind][index]}"
                for kind, index, n in words
            ]
            (self.directory / "words").write_text("\n".join(values))
            (self.directory / "memory").write_bytes(memory.bytes)
            ran = subprocess.run(
                [str(program), "memory", grid, threads, "words"],
                cwd=self.directory,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
            assert ran.returncode == 0, f"{entry}: {ran.stderr}"
            memory.bytes[:] = (self.directory / "memory").read_bytes()


class _Memory:
    """The device's memory: tensors one after the other, with room between them."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def put(self, flat: Tensor) -> int:
        """The offset of a tensor's copy."""
        self.bytes.extend(bytes(-len(self.bytes) % 256))
        place = len(self.bytes)
        self.bytes.extend(flat.view(torch.uint8).numpy().tobytes() + bytes(256))
        return place

"""The kernels of an emitted file, from the core, and the C++ that PyTorch calls them through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .emit_file import Function
from .emit_plan import Compiled, Wanted
from .emit_source import fold

_HEAD = """#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

using torch::Tensor;

static void expect(bool holds, const char *name, const char *otherwise) {
    if (!holds) throw py::value_error(std::string(name) + otherwise);
}

/* A contiguous tensor as the kernels take it; what they expect of its sizes they say themselves. */
template <class Description>
static void describe(const char *name, const Tensor &tensor, int64_t rank, torch::Dtype dtype,
                     const torch::Device &device, Description &made) {
    expect(tensor.device() == device, name, " lies on another device");
    expect(tensor.dim() == rank, name, " has too many or too few dimensions");
    expect(tensor.scalar_type() == dtype, name, " is not of the dtype that the kernels take");
    expect(tensor.is_contiguous(), name, " is not contiguous");
    made.data = tensor.data_ptr();
    std::copy(tensor.sizes().begin(), tensor.sizes().end(), made.size);
    std::copy(tensor.strides().begin(), tensor.strides().end(), made.stride);
}
"""
_DTYPES = {
    torch.float32: "torch::kFloat",
    torch.float64: "torch::kDouble",
    torch.float16: "torch::kHalf",
    torch.bfloat16: "torch::kBFloat16",
    torch.bool: "torch::kBool",
}


def identifier(name: str) -> str:
    """A model's name as an identifier."""
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    return word if not word[:1].isdigit() else f"model_{word}"


@dataclass
class Code:
    """CUDA C of all regions, whose names keep them apart."""

    declarations: str  # what a caller sees
    kernels: str


def code(regions: Sequence[Compiled], wanted: Wanted) -> Code:
    """From the core."""
    found = [_CUT.fullmatch(emit(r, wanted, "unit")) for r in regions]
    assert all(found)
    cut = [f.groups() for f in found if f]
    includes = cut[0][1]
    kernels = [
        title + (includes if i == 0 else "") + rest for i, (title, _, _, rest) in enumerate(cut)
    ]
    declared = ["#include <cuda_runtime_api.h>\n", *(c[2] for c in cut)]
    return Code("\n".join(declared), "\n".join(kernels))


# Title, includes, declarations, the rest.
_CUT = re.compile(r"(/\*.*?\*/\n)((?:#include <[\w.]+>\n|\n)+)(.*?\n)\n(namespace .*)", re.DOTALL)


def emit(compiled: Compiled, wanted: Wanted, part: str) -> str:
    """One text of a region, from the core: CUDA, or C for the CPU."""
    if wanted.gpu is None:
        return compiled.graph.emit_c(compiled.layouts, compiled.region.name, part)
    return compiled.graph.emit(
        compiled.layouts,
        compiled.region.name,
        part=part,
        gpu=wanted.gpu,
        precision=compiled.precision,
    )


def binding(functions: Sequence[Function], declarations: str) -> str:
    """The C++ of all functions, whose kernels are declared so."""
    parts = [_HEAD, *(_function(f, declarations) for f in functions)]
    lines = [f'    module.def("{f.name}", &call_{f.name});' for f in functions]
    parts.append("PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {\n" + "\n".join(lines) + "\n}")
    return "\n".join(parts)


def _function(function: Function, declarations: str) -> str:
    name = function.name
    inputs = [p.name for p in function.parameters]
    several = len(function.results) > 1
    outputs = [f"out{i}" if several else "out" for i, _ in enumerate(function.results)]
    members = re.findall(rf"^    {name}_tensor (\w+);", declarations, re.MULTILINE)
    kind = "Tensor" if len(outputs) == 1 else "std::vector<Tensor>"
    taken = ", ".join(f"const Tensor &{n}" for n in inputs)
    lines = [
        fold(f"static {kind} call_{name}({taken}) {{").replace(",\n)", "\n)"),
        f"    const torch::Device device = {inputs[0]}.device();",
        "    const c10::cuda::CUDAGuard guard(device);",
        f"    {name}_arguments given;",
    ]

    def describe(tensor: str, rank: int, dtype: torch.dtype) -> str:
        words = f'"{tensor}", {tensor}, {rank}, {_DTYPES[dtype]}, device, given.{members.pop(0)}'
        return f"    describe({words});"

    lines += [describe(p.name, len(p.sizes), p.dtype) for p in function.parameters]
    for out, (dtype, sizes) in zip(outputs, function.results, strict=True):
        words = ", ".join(map(_in_c, sizes))
        options = f"{inputs[0]}.options()"
        if dtype != function.parameters[0].dtype:
            options += f".dtype({_DTYPES[dtype]})"
        made = fold(f"Tensor {out} = torch::empty({{{words}}}, {options});", 4)
        lines.append(made.replace(",\n    )", "\n    )"))
        lines.append(describe(out, len(sizes), dtype))
    if f"{name}_workspace(" in declarations:
        bytes_of = f"{inputs[0]}.options().dtype(torch::kByte)"
        size = f"{name}_workspace(&given)"
        lines += [
            f"    Tensor workspace = torch::empty({{{size}}}, {bytes_of});",
            "    given.workspace = workspace.data_ptr();",
        ]
    lines += [
        f"    const char *wrong = {name}(&given, c10::cuda::getCurrentCUDAStream());",
        "    if (wrong) throw py::value_error(wrong);",
        f"    return {outputs[0] if len(outputs) == 1 else '{' + ', '.join(outputs) + '}'};",
        "}",
        "",
    ]
    return "\n".join(lines)


def _in_c(size: str) -> str:
    """A size as an expression in C++."""
    return re.sub(r"(\w+)\.shape\[(\d+)\]", r"\1.size(\2)", size).replace("//", "/")

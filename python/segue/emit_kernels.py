"""The kernels of an emitted file, from the core, and the C++ that PyTorch calls them through."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from .emit_file import Function
from .emit_plan import Compiled, Wanted
from .emit_source import fold

_HEAD = """#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

[[noreturn]] static void refuse(const std::string &what, const std::string &why) {
    throw py::value_error(what + why);
}

/* A contiguous tensor as the kernels take it; what they expect of its sizes they say themselves. */
template <class Description>
static Description describe(const char *name, const torch::Tensor &tensor, int64_t rank,
                            torch::Dtype dtype, const torch::Device &device) {
    if (tensor.device() != device) refuse(name, " lies on another device");
    if (tensor.dim() != rank) refuse(name, " must have " + std::to_string(rank) + " dimensions");
    if (tensor.scalar_type() != dtype) refuse(name, " is not of the dtype that the kernels take");
    if (!tensor.is_contiguous()) refuse(name, " is not contiguous");
    Description made = {tensor.data_ptr(), {}, {}};
    for (int64_t i = 0; i < rank; i++)
        made.size[i] = tensor.size(i), made.stride[i] = tensor.stride(i);
    return made;
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


def code(regions: Sequence[Compiled], wanted: Wanted) -> str:
    """CUDA C of all regions: what it defines is named after them, so that they get along."""
    return "\n".join(emit(r, wanted, "unit") for r in regions)


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


def binding(functions: Sequence[Function], code: str) -> str:
    """The C++ of all functions, whose kernels are in `code`."""
    parts = [_HEAD, *(_function(f, code) for f in functions)]
    lines = [f'    module.def("{f.name}", &call_{f.name});' for f in functions]
    parts.append("PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {\n" + "\n".join(lines) + "\n}")
    return "\n".join(parts)


def _function(function: Function, code: str) -> str:
    name = function.name
    inputs = [p.name for p in function.parameters]
    several = len(function.results) > 1
    outputs = [f"out{i}" if several else "out" for i, _ in enumerate(function.results)]
    shapes = [*(p.sizes for p in function.parameters), *(sizes for _, sizes in function.results)]
    rank = max(1, *map(len, shapes))
    kind = "torch::Tensor" if len(outputs) == 1 else "std::vector<torch::Tensor>"
    taken = ", ".join(f"const torch::Tensor &{n}" for n in inputs)
    works = f"{name}_workspace(" in code
    lines = [
        "// As the kernels' text declares them.",
        f"struct {name}_tensor {{ void *data; long long size[{rank}], stride[{rank}]; }};",
        f"struct {name}_arguments {{",
        fold(f"{name}_tensor {', '.join([*inputs, *outputs])};", 4),
        *(["    void *workspace;"] if works else []),
        "};",
        *([f'extern "C" long long {name}_workspace(const {name}_arguments *);'] if works else []),
        f'extern "C" int {name}(const {name}_arguments *, cudaStream_t);',
        f'extern "C" const char *{name}_message(int);',
        "",
        fold(f"static {kind} call_{name}({taken}) {{").replace(",\n)", "\n)"),
        f"    const torch::Device device = {inputs[0]}.device();",
        "    const c10::cuda::CUDAGuard guard(device);",
        f"    {name}_arguments given;",
    ]
    for p in function.parameters:
        words = f'"{p.name}", {p.name}, {len(p.sizes)}, {_DTYPES[p.dtype]}, device'
        lines.append(f"    given.{p.name} = describe<{name}_tensor>({words});")
    for out, (dtype, sizes) in zip(outputs, function.results, strict=True):
        words = ", ".join(map(_in_c, sizes))
        options = f"{inputs[0]}.options()"
        if dtype != function.parameters[0].dtype:
            options += f".dtype({_DTYPES[dtype]})"
        made = fold(f"torch::Tensor {out} = torch::empty({{{words}}}, {options});", 4)
        lines.append(made.replace(",\n    )", "\n    )"))
        words = f'"{out}", {out}, {len(sizes)}, {_DTYPES[dtype]}, device'
        lines.append(f"    given.{out} = describe<{name}_tensor>({words});")
    if works:
        bytes_of = f"{inputs[0]}.options().dtype(torch::kByte)"
        size = f"{name}_workspace(&given)"
        lines += [
            f"    torch::Tensor workspace = torch::empty({{{size}}}, {bytes_of});",
            "    given.workspace = workspace.data_ptr();",
        ]
    lines += [
        f"    const int status = {name}(&given, c10::cuda::getCurrentCUDAStream());",
        f'    if (status < 0) refuse({name}_message(status), "");',
        f"    TORCH_CHECK(status == 0, {name}_message(status));",
        f"    return {outputs[0] if len(outputs) == 1 else '{' + ', '.join(outputs) + '}'};",
        "}",
        "",
    ]
    return "\n".join(lines)


def _in_c(size: str) -> str:
    """A size as an expression in C++."""
    return re.sub(r"(\w+)\.shape\[(\d+)\]", r"\1.size(\2)", size).replace("//", "/")

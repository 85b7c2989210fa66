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

template <class Description>
static Description describe(const torch::Tensor &tensor, const torch::Device &device) {
    if (tensor.device() != device)
        throw py::value_error("the tensors lie on several devices");
    Description made = {tensor.data_ptr(), {}, {}};
    for (int64_t i = 0; i < tensor.dim(); i++) {
        made.size[i] = tensor.size(i);
        made.stride[i] = tensor.stride(i);
    }
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


def binding(functions: Sequence[Function]) -> str:
    """The C++ of all functions."""
    parts = [_HEAD, *map(_function, functions)]
    lines = [f'    module.def("{f.name}", &call_{f.name});' for f in functions]
    parts.append("PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {\n" + "\n".join(lines) + "\n}")
    return "\n".join(parts)


def _function(function: Function) -> str:
    name = function.name
    inputs = [p.name for p in function.parameters]
    several = len(function.results) > 1
    outputs = [f"out{i}" if several else "out" for i, _ in enumerate(function.results)]
    shapes = [*(p.sizes for p in function.parameters), *(sizes for _, sizes in function.results)]
    rank = max(1, *map(len, shapes))
    kind = "torch::Tensor" if len(outputs) == 1 else "std::vector<torch::Tensor>"
    taken = ", ".join(f"torch::Tensor {n}" for n in inputs)
    lines = [
        "// As the kernels' text declares them.",
        f"struct {name}_tensor {{",
        "    void *data;",
        f"    long long size[{rank}], stride[{rank}];",
        "};",
        f"struct {name}_arguments {{",
        fold(f"{name}_tensor {', '.join([*inputs, *outputs])};", 4),
        "    void *workspace;",
        "};",
        f'extern "C" long long {name}_workspace(const {name}_arguments *);',
        f'extern "C" int {name}(const {name}_arguments *, cudaStream_t);',
        f'extern "C" const char *{name}_message(int);',
        "",
        fold(f"static {kind} call_{name}({taken}) {{").replace(",\n)", "\n)"),
        f"    const torch::Device device = {inputs[0]}.device();",
        "    const c10::cuda::CUDAGuard guard(device);",
    ]
    for out, (dtype, sizes) in zip(outputs, function.results, strict=True):
        words = ", ".join(map(_in_c, sizes))
        options = f"{inputs[0]}.options()"
        if dtype != function.parameters[0].dtype:
            options += f".dtype({_DTYPES[dtype]})"
        made = fold(f"torch::Tensor {out} = torch::empty({{{words}}}, {options});", 4)
        lines.append(made.replace(",\n    )", "\n    )"))
    described = ", ".join(f"describe<{name}_tensor>({n}, device)" for n in [*inputs, *outputs])
    filled = fold(f"{name}_arguments arguments = {{{described}, nullptr}};", 4)
    lines += [
        filled.replace(",\n    }", "\n    }"),
        "    torch::Tensor workspace;",
        f"    if (int64_t bytes = {name}_workspace(&arguments)) {{",
        f"        workspace = torch::empty({{bytes}}, {inputs[0]}.options().dtype(torch::kByte));",
        "        arguments.workspace = workspace.data_ptr();",
        "    }",
        f"    int status = {name}(&arguments, c10::cuda::getCurrentCUDAStream());",
        "    if (status < 0)",
        f"        throw py::value_error({name}_message(status));",
        f"    TORCH_CHECK(status == 0, {name}_message(status));",
        f"    return {outputs[0] if len(outputs) == 1 else '{' + ', '.join(outputs) + '}'};",
        "}",
        "",
    ]
    return "\n".join(lines)


def _in_c(size: str) -> str:
    """A size as an expression in C++."""
    return re.sub(r"(\w+)\.shape\[(\d+)\]", r"\1.size(\2)", size).replace("//", "/")

"""The kernels of an emitted file, from the core, and the C++ that PyTorch calls them through."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .emit_file import Function
from .emit_plan import Compiled, Wanted
from .emit_source import WIDTH, fold

_HEAD = """#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>

using torch::Tensor;

/* What the kernels take for granted of a tensor. */
static void check(const char *name, const Tensor &tensor, torch::IntArrayRef sizes,
                  torch::Dtype dtype, const torch::Device &device) {
    const char *wrong = tensor.device() != device        ? " lies on another device"
                        : tensor.scalar_type() != dtype  ? " is of a dtype that kernels do not take"
                        : tensor.sizes() != sizes        ? " has sizes that kernels do not take"
                        : !tensor.is_contiguous()        ? " is not contiguous"
                                                         : nullptr;
    if (wrong) throw py::value_error(std::string(name) + wrong);
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


@dataclass
class _Tensor:
    """A parameter of a kernel's C function: its name, and its sizes in those that vary."""

    name: str
    sizes: list[str]


def _declared(name: str, declarations: str) -> tuple[list[_Tensor], list[str]]:
    """Tensors of a C function, and sizes that vary: of its comment and of its head."""
    found = re.search(rf"/\*((?:(?!\*/).)*)\*/\s*[^;*]*\*{name}\((.*?)\);", declarations, re.DOTALL)
    assert found, declarations
    words = re.sub(r"\s+\*?\s*", " ", found[1])
    tensors = [
        _Tensor(n, [s for s in sizes.split(", ") if s])
        for n, sizes in re.findall(r"(\w+): \w+ \[(.*?)\]", words)
    ]
    return tensors, re.findall(r"long long (\w+)", found[2])


def _function(function: Function, declarations: str) -> str:
    name = function.name
    inputs = [p.name for p in function.parameters]
    several = len(function.results) > 1
    outputs = [f"out{i}" if several else "out" for i, _ in enumerate(function.results)]
    tensors, varying = _declared(name, declarations)
    assert len(tensors) == len(inputs) + len(outputs)
    kind = "Tensor" if len(outputs) == 1 else "std::vector<Tensor>"
    taken = ", ".join(f"const Tensor &{n}" for n in inputs)
    lines = [
        fold(f"static {kind} call_{name}({taken}) {{").replace(",\n)", "\n)"),
        f"    const torch::Device device = {inputs[0]}.device();",
        "    const c10::cuda::CUDAGuard guard(device);",
    ]
    names = {size: f"{size}_" if size in inputs else size for size in varying}
    of = dict(zip(inputs, tensors, strict=False))
    found = {
        size: next((n, t.sizes.index(size)) for n, t in of.items() if size in t.sizes)
        for size in varying
    }
    for n in dict.fromkeys(n for n, _ in found.values()):
        words = ", ".join(
            f"{names[s]} = {n}.size({dim})" for s, (m, dim) in found.items() if m == n
        )
        rank = len(of[n].sizes)
        said = f'"{n} has too many or too few dimensions"'
        lines.append(f"    if ({n}.dim() != {rank}) throw py::value_error({said});")
        lines.append(f"    const int64_t {words};")

    def sizes_of(tensor: _Tensor) -> str:
        words = (re.sub(r"[a-z]\w*", lambda m: names[m[0]], s) for s in tensor.sizes)
        return ", ".join(words)

    for p in function.parameters:
        words = f'"{p.name}", {p.name}, {{{sizes_of(of[p.name])}}}, {_DTYPES[p.dtype]}, device'
        lines.append(fold(f"    check({words});"))
    given = [_pointer(p.name, p.dtype) for p in function.parameters]
    results = zip(outputs, function.results, tensors[len(inputs) :], strict=True)
    for out, (dtype, _), tensor in results:
        options = f"{inputs[0]}.options()"
        if dtype != function.parameters[0].dtype:
            options += f".dtype({_DTYPES[dtype]})"
        made = fold(f"Tensor {out} = torch::empty({{{sizes_of(tensor)}}}, {options});", 4)
        lines.append(made.replace(",\n    )", "\n    )"))
        given.append(_pointer(out, dtype))
    if f"{name}_workspace(" in declarations:
        bytes_of = f"{inputs[0]}.options().dtype(torch::kByte)"
        lines.append(f"    Tensor workspace = torch::empty({{{name}_workspace()}}, {bytes_of});")
        given.append("workspace.data_ptr()")
    given += [*names.values(), "c10::cuda::getCurrentCUDAStream()"]
    lines += [
        *_wrap(f"    const char *wrong = {name}(", given),
        "    if (wrong) throw py::value_error(wrong);",
        f"    return {outputs[0] if len(outputs) == 1 else '{' + ', '.join(outputs) + '}'};",
        "}",
        "",
    ]
    return "\n".join(lines)


def _pointer(name: str, dtype: torch.dtype) -> str:
    word = {torch.float32: "<float>", torch.float64: "<double>"}.get(dtype, "")
    return f"{name}.data_ptr{word}()"


def _wrap(head: str, words: Sequence[str]) -> list[str]:
    """A call in as few lines as it fits."""
    lines = [head]
    for i, word in enumerate(words):
        part = word + (");" if i + 1 == len(words) else ",")
        line = lines[-1] + ("" if lines[-1].endswith("(") else " ") + part
        if len(line) <= WIDTH:
            lines[-1] = line
        else:
            lines.append(f"        {part}")
    return lines

# mypy: ignore-errors
"""Runs an emitted file by itself, without Segue, and says what it found.

    python emitted_child.py cpu  RESULT.json MODEL.py NEW.py [MODEL.py NEW.py...]
    python emitted_child.py cuda RESULT.pt NEW.py

A program of its own: what it imports proves what an emitted file needs.
"""

import copy
import importlib.util
import json
import sys
import time
import warnings

sys.modules["segue"] = None  # type: ignore[assignment]  # importing it fails from here on

import torch  # noqa: E402

SEEDS = 5


def load(path, name):
    """A file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def tensors(value):
    """Tensors of a result, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors(v)] if isinstance(value, (list, tuple)) else []


def equal(a, b):
    """Bit for bit, NaN being equal to NaN."""
    if len(tensors(a)) != len(tensors(b)):
        return False
    pairs = zip(tensors(a), tensors(b), strict=True)
    return all(
        x.dtype == y.dtype and x.shape == y.shape and torch.equal(x.nan_to_num(7), y.nan_to_num(7))
        for x, y in pairs
    )


def build(module, cls, seed):
    """A model, and the number drawn after its parameters."""
    torch.manual_seed(seed)
    arguments = module.get_init_inputs() if hasattr(module, "get_init_inputs") else []
    made = getattr(module, cls)(*arguments).eval()
    return made, torch.rand(1).item()


def small_inputs(module):
    """Two elements; the examples' images cut."""
    if not hasattr(module, "batch_size"):
        return [x[:2] for x in module.get_inputs()]
    module.batch_size = 2
    return [x[..., :40, :44].contiguous() for x in module.get_inputs()]


def gradients(model, inputs):
    """Of a sum of results, for inputs and parameters."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    model.zero_grad()
    sum(t.double().sum() for t in tensors(model(*inputs)) if t.is_floating_point()).backward()
    return [x.grad for x in (*inputs, *model.parameters())]


def on_cpu(path, new_path):
    """Every point as a word and whether it holds."""
    old, new = load(path, "original"), load(new_path, "emitted")
    a, after_a = build(old, "Model", 3)
    b, after_b = build(new, "ModelNew", 3)
    torch.manual_seed(5)
    inputs = small_inputs(new)
    names = [n for n, _ in a.named_parameters()]
    found = {"drawn alike": after_a == after_b}
    found["same names"] = names == [n for n, _ in b.named_parameters()]
    found["same numbers"] = all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
    with torch.no_grad():
        found["same results"] = equal(a(*inputs), b(*inputs))
    c, _ = build(old, "Model", 4)
    b.load_state_dict(c.state_dict())
    found["loads"] = equal(c(*inputs), b(*inputs))
    a.load_state_dict(b.state_dict())
    found["loads back"] = equal(a(*inputs), b(*inputs))
    found["copies"] = equal(copy.deepcopy(b)(*inputs), b(*inputs))
    if all(x.dtype != torch.float16 for x in inputs):
        found["same gradients"] = all(map(torch.equal, gradients(c, inputs), gradients(b, inputs)))
    return found


def on_gpu(new_path):
    """Results of several seeds, and what else was seen."""
    warnings.simplefilter("error")  # the sentence about the original operators would be one
    began = time.time()
    new = load(new_path, "emitted")
    report = {"outputs": [], "apart": []}
    with torch.device("cuda"), torch.no_grad():
        for seed in range(SEEDS):
            model, _ = build(new, "ModelNew", seed)
            torch.manual_seed(100 + seed)
            inputs = new.get_inputs()
            report["outputs"].append([t.cpu() for t in tensors(model(*inputs))] if seed < 2 else [])
            if seed == 0:
                report["seconds"] = time.time() - began
            pairs = zip(
                tensors(model(*inputs)), tensors(new.Model.forward(model, *inputs)), strict=True
            )
            report["apart"].append(max(apart(x, y) for x, y in pairs))
        report["stream"] = on_stream(model, inputs)
        report["graph"] = in_graph(model, inputs)
        report["sizes"] = other_sizes(new, model, inputs)
        report["special"] = special(new, model, inputs)
    report["gradients"] = all(
        torch.allclose(x, y, rtol=1e-3, atol=1e-3)
        for x, y in zip(
            gradients(model, [x[:2] for x in inputs]),
            gradients(copied(new, model), [x[:2] for x in inputs]),
            strict=True,
        )
    )
    return report


def apart(x, y):
    """How far apart two tensors are, in units of 1e-4 and 1e-4 of the value; infinite: in form."""
    if x.shape != y.shape or x.stride() != y.stride():
        return float("inf")
    return ((x - y).abs() / (1e-4 + 1e-4 * y.abs())).max().item() if x.numel() else 0.0


def copied(new, model):
    """The original with the same parameters."""
    with torch.device("cuda"):
        made, _ = build(new, "Model", 0)
    made.load_state_dict(model.state_dict())
    return made


def on_stream(model, inputs):
    """Whether a stream that is kept busy first gives the same."""
    wanted = model(*inputs)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(10_000_000)
        late = [torch.empty_like(x).copy_(x) for x in inputs]
        got = model(*late)
    torch.cuda.current_stream().wait_stream(stream)
    return equal(wanted, got)


def in_graph(model, inputs):
    """Whether a captured graph gives what a call does, on other data as well."""
    static = [x.clone() for x in inputs]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = model(*static)
    for x in static:
        x.mul_(0.5)
    graph.replay()
    return equal(model(*static), out)


def other_sizes(new, model, inputs):
    """How far from PyTorch, by sizes: odd and small ones, one image, none."""
    found = {}
    for cut in ((1, 0), (3, 1), (2, 7), (5, 13), (0, 0)):
        batch, less = cut
        smaller = []
        for x in inputs:
            index = [slice(0, batch), slice(None), *[slice(0, n - less) for n in x.shape[2:]]]
            smaller.append(x[tuple(index)].contiguous())
        got, wanted = model(*smaller), new.Model.forward(model, *smaller)
        pairs = zip(tensors(got), tensors(wanted), strict=True)
        found[str([tuple(x.shape) for x in smaller])] = max(apart(x, y) for x, y in pairs)
    return found


def special(new, model, inputs):
    """Whether NaN come out where PyTorch has them; how far huge inputs lead, of the largest."""
    few = [x[:2].clone() for x in inputs]
    for x in few:
        x.view(-1)[:: max(1, x.numel() // 7)] = float("nan")
    got, wanted = tensors(model(*few)), tensors(new.Model.forward(model, *few))
    same = all(torch.equal(x.isnan(), y.isnan()) for x, y in zip(got, wanted, strict=True))
    huge = [x[:2] * 1e30 for x in inputs]
    got, wanted = tensors(model(*huge)), tensors(new.Model.forward(model, *huge))
    far = max(
        ((x - y).abs().max() / y.abs().max().clamp(min=1e-30)).item()
        for x, y in zip(got, wanted, strict=True)
    )
    return [same, far]


def main():
    """See the head of the file."""
    kind, result, *paths = sys.argv[1:]
    if kind == "cuda":
        torch.save(on_gpu(paths[0]), result)
        return
    found = {}
    for path, new_path in zip(paths[::2], paths[1::2], strict=True):
        found[path] = on_cpu(path, new_path)
    with open(result, "w", encoding="utf-8") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main()

"""The command line: `segue bench|compile|check|explain|demo|doctor|cache`.

What the user gets wrong is answered with one sentence on standard error and exit status 2; a check
that fails exits with 1. Commands import what they need when they run, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from .modelfile import UserError

Command = Callable[[argparse.Namespace], int]

DEVICES = ("cpu", "cuda")
FAILED, MISUSED, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """argparse, with errors as the other commands print them: one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Refuses the command line."""
        raise UserError(f"{message} (see {self.prog} --help).")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status."""
    try:
        args = parser().parse_args(arguments)
        command: Command = args.command
        return command(args)
    except UserError as error:
        print(f"segue: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("segue: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return FAILED


def parser() -> argparse.ArgumentParser:
    """Every command and its options."""
    top = Parser(prog="segue", description="Runs a convolution and what follows as one kernel.")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    bench = commands.add_parser(
        "bench", help="time a model in eager PyTorch, in torch.compile and in Segue"
    )
    bench.add_argument("models", metavar="MODEL.py", nargs="+")
    _batch(bench)
    _device(bench)
    _json(bench)
    bench.add_argument(
        "--seconds", type=_seconds, default=10.0, help="length of the timing, a model (default 10)"
    )
    bench.add_argument("--repeat", type=_count, help="rounds of the timing, instead of --seconds")
    bench.add_argument(
        "--tune", action="store_true", help="measure Segue's candidate plans and keep the best"
    )
    bench.add_argument(
        "--report", metavar="DIR", help="on GPUs: write figures, pictures and a page to a folder"
    )
    bench.add_argument(
        "--subjects",
        metavar="A,B,...",
        help="on GPUs: what to time beside eager and segue (default: all)",
    )
    bench.add_argument(
        "--classes",
        metavar="A,B,...",
        help="on GPUs: classes of numbers to time eager and Segue in as well: fp32 (TF32 off), "
        "fp16, bf16, none (default: all; none with --subjects)",
    )
    bench.add_argument("--threads", type=_count, help="threads for PyTorch and Segue")
    bench.add_argument(
        "--quick", action="store_true", help="leave out what needs new processes: memory, start-up"
    )
    bench.set_defaults(command=_bench)

    compile_ = commands.add_parser(
        "compile", help="write a model with fused operators as one file that does not need Segue"
    )
    compile_.add_argument("model", metavar="MODEL.py")
    compile_.add_argument(
        "-o", "--output", metavar="NEW.py", required=True, help="with --emit c: a folder"
    )
    compile_.add_argument(
        "--emit", choices=("python", "c"), default="python", help="c: the kernels with a C entry"
    )
    _batch(compile_)
    compile_.add_argument(
        "--device", choices=DEVICES, default="cuda", help="cpu: with --emit c alone"
    )
    compile_.add_argument(
        "--gpu", metavar="ARCH,...", help="architectures, the main one first (default sm_90a,sm_80)"
    )
    compile_.add_argument(
        "--precision",
        choices=("match", "fp32", "tf32", "tf32_even"),
        help="class of float32 convolutions (default: match, which asks PyTorch, where there is a "
        "GPU; else as in --figures, else fp32)",
    )
    compile_.add_argument(
        "--figures", metavar="FILE", help="results.json of `segue bench --report` to quote"
    )
    compile_.set_defaults(command=_compile)

    check = commands.add_parser(
        "check", help="test a replacement for a model against the contract, point by point"
    )
    check.add_argument("model", metavar="MODEL.py")
    check.add_argument(
        "new", metavar="NEW.py", nargs="?", help="file with ModelNew (default: segue.optimize)"
    )
    _batch(check)
    _device(check)
    _json(check)
    check.set_defaults(command=_check)

    explain = commands.add_parser("explain", help="say what Segue does with a model, and why")
    explain.add_argument("model", metavar="MODEL.py")
    _batch(explain)
    _device(explain)
    explain.set_defaults(command=_explain)

    demo = commands.add_parser("demo", help="time four example models on this machine")
    demo.add_argument(
        "--seconds", type=_seconds, default=40.0, help="length of all timing (default 40)"
    )
    demo.set_defaults(command=_demo)

    doctor = commands.add_parser("doctor", help="say what this machine offers and Segue will use")
    _json(doctor)
    doctor.set_defaults(command=_doctor)

    cache = commands.add_parser("cache", help="list or clear what Segue remembers")
    cache.add_argument("action", choices=("ls", "clear"))
    cache.set_defaults(command=_cache)
    return top


def _batch(to: argparse.ArgumentParser) -> None:
    to.add_argument("--batch", type=_count, metavar="N", help="leading dimension of the inputs")


def _device(to: argparse.ArgumentParser) -> None:
    to.add_argument("--device", choices=DEVICES, default="cpu")


def _json(to: argparse.ArgumentParser) -> None:
    to.add_argument("--json", metavar="FILE", help="write the results to a file as well")


def _count(text: str) -> int:
    """A whole number above zero."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return value


def _seconds(text: str) -> float:
    """A time above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above zero")
    return value


def _bench(args: argparse.Namespace) -> int:
    from . import bench  # noqa: PLC0415

    return bench.run(args)


def _compile(args: argparse.Namespace) -> int:
    from . import emit  # noqa: PLC0415

    return emit.run(args)


def _check(args: argparse.Namespace) -> int:
    from . import check  # noqa: PLC0415

    return check.run(args)


def _explain(args: argparse.Namespace) -> int:
    from . import explain_command  # noqa: PLC0415

    return explain_command.run(args)


def _demo(args: argparse.Namespace) -> int:
    from . import demo  # noqa: PLC0415

    return demo.run(args)


def _doctor(args: argparse.Namespace) -> int:
    from . import doctor  # noqa: PLC0415

    return doctor.run(args)


def _cache(args: argparse.Namespace) -> int:
    from . import cache_command  # noqa: PLC0415

    return cache_command.run(args)

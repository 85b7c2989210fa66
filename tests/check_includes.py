"""Fails when a C module includes a module above it; STACK and ALLOWED say which may.

    check_includes.py [ROOT]

The public header may be included from everywhere. Siblings (gen/cpu and gen/cuda, run/cpu and
run/cuda) never include each other.
"""

import re
import sys
from pathlib import Path

# Modules of src/ from the bottom up: each may include itself and what stands before it.
STACK = ["base", "target", "ir", "opt", "plan", "gen", "emit", "build", "run", "api"]

# The only doors between src/ and kernels/: kernels read the op table; what writes tile programs and
# what runs them know the kernels' interface.
KERNEL_NEEDS = {"src/ir/ops.h", "src/ir/ops.def", "src/ir/constants.h"}
KERNEL_INTERFACE = "kernels/cpu/kernels.h"
KERNEL_USERS = {"src/gen/cpu", "src/gen/tile", "src/run", "src/run/cpu"}

# A folder that its siblings share: gen/cpu and gen/cuda both write tile programs.
SHARED_SIBLINGS = {"src/gen/tile"}

# Folders of programs over the library; nothing in src/ or kernels/ includes them. sgc, the Python
# extension and the examples see what a user sees, the public header; tests and benchmarks may look
# at everything.
PUBLIC_ONLY = {"tools", "python", "examples"}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def resolve(root: Path, includer: Path, name: str) -> str | None:
    """Path of an included file relative to root, searched as the compiler does; None: not ours."""
    for folder in (includer.parent, root / "include", root / "src", root):
        path = (folder / name).resolve()
        if path.is_file() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return None


def objection(includer: str, included: str) -> str | None:
    """Why one file of the repository may not include another; None when it may."""
    if included == "include/segue.h":
        return None
    top, module = includer.split("/")[:2]
    other_top, other_module = included.split("/")[:2]
    if top in ("tests", "bench"):
        return None
    if top in PUBLIC_ONLY:
        return None if top == other_top else f"{top}/ may include only the public header"
    if top == "include":
        return "the public header stands alone"
    if top == "kernels":
        allowed = included in KERNEL_NEEDS or other_top == "kernels"
        return None if allowed else "kernels/ may include only " + ", ".join(sorted(KERNEL_NEEDS))
    if other_top == "kernels":
        allowed = included == KERNEL_INTERFACE and includer.rpartition("/")[0] in KERNEL_USERS
        users = " and ".join(sorted(KERNEL_USERS))
        return None if allowed else f"only {users} may include {KERNEL_INTERFACE}"
    if other_top != "src":
        return f"src/ may not include {other_top}/"
    if module not in STACK or other_module not in STACK:
        unknown = module if module not in STACK else other_module
        return f"src/{unknown} has no place in the stack of modules"
    if STACK.index(other_module) > STACK.index(module):
        return f"{other_module} is above {module}"
    return sibling_objection(includer, included)


def sibling_objection(includer: str, included: str) -> str | None:
    """Targets of one module (gen/cpu, gen/cuda) do not know each other, but what they share."""
    target, other = includer.split("/")[:-1], included.split("/")[:-1]
    siblings = len(target) == len(other) == 3 and target[:2] == other[:2] and target != other
    siblings = siblings and "/".join(other) not in SHARED_SIBLINGS
    return f"{'/'.join(other[1:])} is a sibling of {'/'.join(target[1:])}" if siblings else None


def written_by_sgc(includer: Path, name: str) -> bool:
    """Whether the header is what sgc writes for a graph beside an example."""
    beside = includer.with_name(Path(name).name).with_suffix(".sg")
    return "examples" in includer.parts and beside.is_file()


def check(root: Path) -> list[str]:
    """All objections under root, as lines for a person."""
    root = root.resolve()
    found = []
    for folder in ("include", "src", "kernels", "tools", "python", "examples", "tests", "bench"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in (".c", ".h", ".def"):
                continue
            text = path.read_text(encoding="utf-8")
            for match in INCLUDE.finditer(text):
                included = resolve(root, path, match[1])
                includer = path.relative_to(root).as_posix()
                if included is None:
                    why: str | None = None
                    if not written_by_sgc(path, match[1]):
                        why = "no such file in the repository"
                else:
                    why = objection(includer, included)
                if why:
                    line = text.count("\n", 0, match.start()) + 1
                    found.append(f'{includer}:{line}: includes "{match[1]}": {why}')
    return found


def main() -> int:
    """Checks the repository this file stands in, or the folder named."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    found = check(root)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs clang-tidy over the library, sgc and the Python extension, on all processors.

    run_clang_tidy.py BUILD_DIR

Kernels are compiled many times; one compilation stands for all (generic, f32). A file that
passed is not looked at again until it, a header, the configuration or its command changes.
"""

import concurrent.futures
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def chosen(entry: dict[str, Any]) -> bool:
    """Whether one row of compile_commands.json is to be checked."""
    if not Path(entry["file"]).is_relative_to(ROOT):
        return False  # written by the build
    path = Path(entry["file"]).relative_to(ROOT)
    if path.parts[0] == "kernels":
        return "segue_kernels_generic_f32" in entry["command"]
    return path.parts[0] in ("src", "tools", "python")


def fingerprint(entry: dict[str, Any], shared: bytes) -> str:
    """Changes with everything that may change what clang-tidy says of a file."""
    parts = [shared, entry["command"].encode(), Path(entry["file"]).read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def main() -> int:
    """Checks every chosen file; prints what was found."""
    build_dir = Path(sys.argv[1]).resolve()
    tidy_dir = build_dir / "tidy"
    passed_dir = tidy_dir / "passed"
    passed_dir.mkdir(parents=True, exist_ok=True)
    commands = json.loads((build_dir / "compile_commands.json").read_text())
    entries = [entry for entry in commands if chosen(entry)]
    for entry in entries:  # asserts tell the analyzer what cannot happen
        entry["command"] = entry["command"].replace("-DNDEBUG", "-UNDEBUG")
    # clang-tidy runs all rows of a file, so it is shown only the chosen ones.
    (tidy_dir / "compile_commands.json").write_text(json.dumps(entries))

    program = shutil.which("clang-tidy")
    if not program:
        sys.exit("clang-tidy is not on the PATH")
    common = [ROOT / ".clang-tidy", ROOT / "python" / ".clang-tidy"]
    for folder in ("include", "src", "kernels", "python"):
        common += [p for p in (ROOT / folder).rglob("*") if p.suffix in (".h", ".def")]
    version = subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    shared = version + b"\0".join(p.read_bytes() for p in sorted(common))

    def tidy(entry: dict[str, Any]) -> str:
        stamp = passed_dir / fingerprint(entry, shared)
        if stamp.exists():
            return ""
        result = subprocess.run(
            [program, "--quiet", "-p", tidy_dir, entry["file"]],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode == 0:
            stamp.touch()
            return ""
        return result.stdout + result.stderr

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(tidy, entries):
            if found:
                failed += 1
                print(found, flush=True)
    print(f"clang-tidy: {len(entries)} files, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Text cases: input, command and expected output of sgc in one small file of tests/cases.

    # run: sgc dump --stage simplify -
    # status: 1
    <what the command reads from stdin>
    ---
    <what it writes to stdout>
    --- stderr
    <what it writes to stderr>

The leading comment lines are the header; a status of 0 and an empty stderr are left out. The
command reads the header as empty lines, so line numbers in its messages are those of the file.
"""

import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

CASE_SECONDS = 60


@dataclass(frozen=True)
class TextCase:
    """A file taken apart: its header without the status, the input, and what is expected."""

    header: list[str]
    input: list[str]
    status: int
    stdout: list[str]
    stderr: list[str]

    @staticmethod
    def parse(text: str) -> "TextCase":
        """Takes the text of a file apart."""
        lines = text.splitlines()
        height = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
        header, rest = lines[:height], lines[height:]
        status = [int(line.split(":")[1]) for line in header if line.startswith("# status:")]
        rest, expected = _split(rest, "---")
        stdout, stderr = _split(expected, "--- stderr")
        header = [line for line in header if not line.startswith("# status:")]
        return TextCase(header, rest, status[0] if status else 0, stdout, stderr)

    @property
    def words(self) -> list[str]:
        """The words of the command after sgc."""
        for line in self.header:
            if line.startswith("# run: sgc "):
                return shlex.split(line)[3:]
        raise ValueError("the header has no line '# run: sgc ...'")

    def text(self) -> str:
        """The file again."""
        lines = [*self._header(), *self.input, "---", *self.stdout]
        if self.stderr:
            lines += ["--- stderr", *self.stderr]
        return "\n".join(lines) + "\n"

    def run(self, sgc: Path) -> "TextCase":
        """The same case, with what the command does now in place of what is expected."""
        lines = [""] * len(self._header()) + self.input
        result = subprocess.run(
            [sgc, *self.words],
            input="".join(line + "\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=CASE_SECONDS,
            check=False,
        )
        return replace(
            self,
            status=result.returncode,
            stdout=result.stdout.splitlines(),
            stderr=result.stderr.splitlines(),
        )

    def _header(self) -> list[str]:
        return self.header + ([f"# status: {self.status}"] if self.status else [])


def _split(lines: list[str], separator: str) -> tuple[list[str], list[str]]:
    if separator not in lines:
        return lines, []
    at = lines.index(separator)
    return lines[:at], lines[at + 1 :]

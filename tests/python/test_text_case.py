"""The harness of text cases."""

from pathlib import Path

import pytest

from text_case import TextCase

PASSING = "# run: sgc dump -\n# Why this case is here.\ngraph\n---\nout\n\nmore\n"
FAILING = "# run: sgc dump -\n# status: 1\ngraph\n---\n--- stderr\nline 3: no\n"


@pytest.mark.parametrize("text", [PASSING, FAILING])
def test_text_and_parse_are_inverse(text: str) -> None:
    assert TextCase.parse(text).text() == text


def test_words_keep_quotes_together() -> None:
    assert TextCase.parse("# run: sgc run --size 'a b' -\n").words == ["run", "--size", "a b", "-"]


def test_a_case_needs_a_command() -> None:
    with pytest.raises(ValueError, match="# run: sgc"):
        _ = TextCase.parse("# only a comment\n").words


def test_run_keeps_line_numbers_and_status(tmp_path: Path) -> None:
    stand_in = tmp_path / "sgc"
    stand_in.write_text('#!/bin/sh\ncat -n\necho "$2" >&2\nexit 3\n')
    stand_in.chmod(0o755)
    case = TextCase.parse("# run: sgc dump -\n# status: 3\ngraph\n---\n").run(stand_in)
    assert [line.split() for line in case.stdout] == [["1"], ["2"], ["3", "graph"]]
    assert (case.status, case.stderr) == (3, ["-"])

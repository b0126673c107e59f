"""
Every block of README and docs is run by a test or has a reason why not, and everything that they name exists.

tests/docs/test_readme_on_servers.py runs the commands.
"""

import argparse
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from exporter.catalogue import CATALOGUE
from tests.support import in_process
from tests.support.alert_rules import ALERT_RULES
from tests.support.markdown import Fence, headings, link_targets
from tests.support.readme import BLOCKS, CHECKED, HOW_TESTED, PAGES, README, SPANS, lines, merged_config, ways_tested
from tests.support.runbooks import PARSERS

ROOT = README.parent


READERS_FILES = {
    "pgslot.yml": "the reader's configuration",
    "pg_hba.conf": "their servers'",
    "clusters/*.yml": "theirs, an example",
    ".venv/consumers": "made by `make test`",
}
"""Files that README names and the repository does not contain."""
FOLDERS = (
    "",
    "deploy/kubernetes",
    "deploy/kubernetes/operator",
    "deploy/compose",
    "dashboards/json",
    "dashboards/provisioning",
)
"""Where paths start: at the root, or in the folder that the sentence is about."""


@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in BLOCKS])
def test_block_is_tested_or_says_why_not(block: Fence) -> None:
    assert len(ways_tested(block)) == 1, f"HOW_TESTED has to say what becomes of:\n{block.text}"
    assert block.info in {"sh", "yaml", "text"}, "what is it written in?"


@pytest.mark.parametrize("start", HOW_TESTED)
def test_prefix_of_a_tested_block_exists(start: str) -> None:
    assert any(block.text.startswith(start) for block in BLOCKS)


def configurations() -> list[Fence]:
    return [block for block in BLOCKS if ways_tested(block) == [CHECKED]]


def tutorials() -> Fence:
    """Return the complete configuration, which the tutorial has."""
    [fence] = [fence for fence in configurations() if fence.file.name == "first-cluster.md"]
    return fence


def complete(block: Fence) -> str:
    """Return the block as a whole file, with keys of the tutorial's where it has none or a cluster has `...`."""
    first, data = (yaml.safe_load(fence.text) for fence in (tutorials(), block))
    if set(data) == set(first):
        return block.text
    return yaml.safe_dump(merged_config(first, data) if "..." in block.text.split() else first | data)


@pytest.mark.parametrize("program", PARSERS)
@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in configurations()])
def test_configuration_is_accepted_by_both_programs(block: Fence, program: str, tmp_path: Path) -> None:
    token = tmp_path / "webhook-token"
    token.write_text("secret\n", "utf-8")
    file = tmp_path / "pgslot.yml"
    file.write_text(complete(block).replace("/run/secrets/webhook-token", str(token)), "utf-8")
    done = in_process.run(program, "--check", f"--config.file={file}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "configuration is valid" in done.stdout


@pytest.mark.parametrize("program", PARSERS)
def test_invalid_configuration_is_rejected_by_both_programs(program: str, tmp_path: Path) -> None:
    """Checks the check above."""
    file = tmp_path / "pgslot.yml"
    file.write_text(tutorials().text.replace("clusters:", "cluster:"), "utf-8")
    assert in_process.run(program, "--check", f"--config.file={file}").returncode == 2


def simple_commands(line: str) -> Iterator[list[str]]:
    """Return the commands of a line of shell, without pipes, redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(word)
    yield words


def commands() -> Iterator[list[str]]:
    """Return the commands of the shell blocks and of the text, as lists of words."""
    for block in BLOCKS:
        if block.info == "sh":
            for line in lines(block):
                yield from simple_commands(line)
    for span in SPANS:
        if re.match(r"(make|pg-slot-exporter|pg-slot-healer) ", span):
            yield from simple_commands(span)


PROGRAM_COMMANDS = sorted({tuple(words) for words in commands() if words and words[0] in PARSERS})


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for words in PROGRAM_COMMANDS])
def test_command_is_accepted_by_its_program(words: tuple[str, ...]) -> None:
    program, *arguments = words
    concrete = [{"COMMAND": "doctor", "FILE": "file", "CLUSTER": "orders"}.get(word, word) for word in arguments]
    PARSERS[program]().parse_args([word for word in concrete if word != "--help"])


def test_commands_of_both_programs_are_found() -> None:
    assert {words[0] for words in PROGRAM_COMMANDS} == set(PARSERS)
    assert len(PROGRAM_COMMANDS) >= 8


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Return the flags of a parser and of its subcommands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags_of(command)


@pytest.mark.parametrize("flag", [span for span in SPANS if span.startswith("--")])
def test_flag_belongs_to_a_program(flag: str) -> None:
    assert flag.split("=", maxsplit=1)[0] in {option for parser in PARSERS.values() for option in flags_of(parser())}


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = [words for words in commands() if words[:1] == ["make"]]
    assert len(named) > 5
    for words in named:
        for word in words[1:]:
            assert word in targets or f"$({word.split('=')[0]})" in makefile or f",$({word[:4]})" in makefile, words


@pytest.mark.parametrize("module", [span.split()[2] for span in SPANS if span.startswith("python -m ")])
def test_executed_module_exists(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.submodule_search_locations is None or find_spec(f"{module}.__main__") is not None


def test_runbook_base_of_the_dashboards_is_changed_by_one_command(tmp_path: Path) -> None:
    [command] = [span for span in SPANS if span.startswith("sed -i ")]
    for file in (ROOT / "dashboards/json").glob("pgslot-*.json"):
        assert "http://localhost:9877" in file.read_text("utf-8")
        shutil.copy(file, tmp_path)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, timeout=60)  # noqa: S602 - as the reader types it
    for file in tmp_path.iterdir():
        assert '"https://pgslot.example.com/runbooks"' in file.read_text("utf-8")
        assert "localhost" not in file.read_text("utf-8")


def is_path(span: str) -> bool:
    name = span.rpartition("/")[2]
    ends = r"\.(md|ya?ml|json|sh|txt|conf|toml)$"
    return bool(re.fullmatch(r"[\w.-]+/[\w./*-]*", span) or re.fullmatch(r"[\w.*-]+" + ends, name)) and "//" not in span


@pytest.mark.parametrize("path", sorted(set(filter(is_path, SPANS)) - set(READERS_FILES)))
def test_path_exists(path: str) -> None:
    assert any(list((ROOT / folder).glob(path.rstrip("/"))) for folder in FOLDERS)


def test_paths_are_recognised() -> None:
    """Checks the check above."""
    assert {"alerts/prometheus.yml", "deploy/systemd/", "configmap.yaml"} <= set(filter(is_path, SPANS))
    assert not is_path("http://HEALER:9878/alerts")


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES])
def test_link_targets_exist(page: Path) -> None:
    for target in link_targets(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings(page)}


def test_metrics_that_are_named_exist() -> None:
    healer = set(re.findall(r"`(pgslot_\w+)`", (ROOT / "docs/reference/healer-metrics.md").read_text("utf-8")))
    named = {name for span in SPANS for name in re.findall(r"\bpgslot_[a-z_]+", span)} - {
        "pgslot_exporter",
        "pgslot_healer",
    }
    assert len(named) > 15
    assert named <= set(CATALOGUE) | healer


def test_alerts_that_are_named_exist() -> None:
    for page in PAGES:
        assert set(re.findall(r"\bPgSlot\w+", page.read_text("utf-8"))) <= set(ALERT_RULES), page

"""The command `completion` of both programs: prints a script that completes the program's command line in a shell."""

import argparse
from collections.abc import Callable, Mapping

from pgslot.cli.command_line import CommandLine, read_parser
from pgslot.cli.completion.bash import bash_script
from pgslot.cli.completion.fish import fish_script
from pgslot.cli.completion.zsh import zsh_script

SCRIPTS: Mapping[str, Callable[[CommandLine], str]] = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}


class CompletionCommand:
    """The command for one program. `parser` returns the program's parser, with all its commands."""

    HELP = "print a script that completes commands, flags and file names in bash, zsh or fish"

    def __init__(self, program: str, parser: Callable[[], argparse.ArgumentParser]) -> None:
        self._parser = parser
        self.EXAMPLES = (
            ("Complete in this bash; put the line into ~/.bashrc to keep it.", f'eval "$({program} completion bash)"'),
            (
                "Complete in every zsh whose fpath has this folder.",
                f"{program} completion zsh >~/.zfunc/_{program}",
            ),
            ("Complete in fish.", f"{program} completion fish >~/.config/fish/completions/{program}.fish"),
        )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("shell", metavar="SHELL", choices=SCRIPTS, help=f"one of {', '.join(SCRIPTS)}")

    def run(self, options: argparse.Namespace) -> int:
        """Print the script."""
        print(SCRIPTS[options.shell](read_parser(self._parser())), end="")
        return 0

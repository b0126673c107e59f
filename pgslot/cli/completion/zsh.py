"""Completion in zsh, with its own _arguments."""

from pgslot.cli.command_line import Argument, CommandLine, Flag

_SCRIPT = r"""#compdef {program}
# Completes {program} in zsh; printed by `{program} completion zsh`.

_{program}() {{
    local context state state_descr line curcontext=$curcontext
    typeset -A opt_args
    local -a commands=(
{commands}
    )
    _arguments -C \
{flags}
        '1: :->command' \
        '*:: :->arguments'
    case $state in
    command) _describe -t commands command commands ;;
    arguments)
        curcontext="${{curcontext%:*:*}}:{program}-$words[1]:"
        case $words[1] in
{cases}
        esac
        ;;
    esac
}}

# Autoloaded from fpath, this file is the function's body; sourced, it defines the function alone.
if [[ $funcstack[1] = _{program} ]]; then
    _{program} "$@"
else
    compdef _{program} {program}
fi
"""


def zsh_script(program: CommandLine) -> str:
    """Return the script for a program."""
    return _SCRIPT.format(
        program=program.name,
        commands="\n".join(f"        {_describe(command)}" for command in program.commands),
        flags="\n".join(f"        {spec} \\" for flag in program.flags for spec in _flag_specs(flag)),
        cases="\n".join(map(_case, program.commands)),
    )


def _describe(command: CommandLine) -> str:
    return _quote(f"{command.name}:{command.summary}")


def _case(command: CommandLine) -> str:
    specs = [spec for flag in command.flags for spec in _flag_specs(flag)]
    specs += [_argument_spec(argument) for argument in command.arguments]
    return f"        {command.name})\n            _arguments \\\n" + " \\\n".join(
        f"                {spec}" for spec in specs
    ) + "\n            ;;"  # fmt: skip


def _flag_specs(flag: Flag) -> list[str]:
    """Return a specification for each name; a flag that was given is not offered again, unless it is repeatable."""
    other_names = " ".join(flag.names) if len(flag.names) > 1 else ""
    exclusion = f"({other_names})" if other_names and not flag.repeatable else ""
    return [
        _quote(("*" if flag.repeatable else exclusion) + name + _after_name(flag, name) + _value(flag))
        for name in flag.names
    ]


def _after_name(flag: Flag, name: str) -> str:
    meaning = f"[{_in_brackets(flag.meaning)}]"
    if flag.value is None:
        return meaning
    if flag.value_optional:
        return f"=-{meaning}:"
    return f"={meaning}" if name.startswith("--") else f"+{meaning}"


def _value(flag: Flag) -> str:
    if flag.value is None:
        return ""
    return f":{_in_message(flag.value)}:{_action(flag)}"


def _argument_spec(argument: Argument) -> str:
    return _quote(f"{'::' if argument.optional else ':'}{_in_message(argument.name)}:{_action(argument)}")


def _action(item: Flag | Argument) -> str:
    if item.is_file:
        return "_files"
    return f"({' '.join(item.choices)})" if item.choices else " "


def _quote(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"


def _in_brackets(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", r"\[").replace("]", r"\]")


def _in_message(text: str) -> str:
    return text.replace("\\", "\\\\").replace(":", r"\:")

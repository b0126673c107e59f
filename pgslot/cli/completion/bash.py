"""Completion in bash, 3.2 and later, without the package bash-completion."""

from collections.abc import Iterable

from pgslot.cli.command_line import CommandLine, Flag

_SCRIPT = r"""# Completes {program} in bash; printed by `{program} completion bash`.

_{function}() {{
    local index previous="" command="" flag="" prefix="" words=""
    local current=${{COMP_WORDS[COMP_CWORD]}}

    # The command is the first word of its name that is not the value of a flag.
    for ((index = 1; index < COMP_CWORD; index++)); do
        case $previous in
        {value_flags}) ;;
        *)
            case ${{COMP_WORDS[index]}} in
            {commands})
                command=${{COMP_WORDS[index]}}
                break
                ;;
            esac
            ;;
        esac
        previous=${{COMP_WORDS[index]}}
    done

    # Bash splits --flag=value into three words, unless COMP_WORDBREAKS lacks the equals sign.
    previous=${{COMP_WORDS[COMP_CWORD - 1]}}
    if [[ $current == = ]]; then
        flag=$previous current=""
    elif [[ $previous == = ]]; then
        flag=${{COMP_WORDS[COMP_CWORD - 2]}}
    elif [[ $current == --*=* ]]; then
        flag=${{current%%=*}} prefix=$flag= current=${{current#*=}}
    else
        case $previous in
        {separate_value_flags}) flag=$previous ;;
        esac
    fi

    COMPREPLY=()
    case "$command $flag" in
{values}
    esac

    if [[ $current == -* ]]; then
        case $command in
{flags}
        esac
    else
        case $command in
{arguments}
        esac
    fi
    _{function}_words "$words" "$current" ""
    # A flag that takes a value ends in an equals sign, and no blank follows.
    if [[ ${{#COMPREPLY[@]}} -eq 1 && ${{COMPREPLY[0]}} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}}

_{function}_words() {{
    local word
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$1" -P "$3" -- "$2")
}}

_{function}_files() {{
    local file
    while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen -f -P "$2" -- "$1")
    compopt -o filenames 2>/dev/null
}}

complete -F _{function} {program}
"""


def bash_script(program: CommandLine) -> str:
    """Return the script for a program."""
    everywhere = [program, *program.commands]
    flags = [flag for place in everywhere for flag in place.flags if flag.value is not None]
    return _SCRIPT.format(
        program=program.name,
        function=program.name.replace("-", "_"),
        commands=" | ".join(command.name for command in program.commands),
        value_flags=" | ".join(["=", *_names(flag for flag in flags if not flag.value_optional)]),
        separate_value_flags=" | ".join(_names(flag for flag in flags if not flag.value_optional)),
        values="\n".join(_value_case(program, place, flag) for place in everywhere for flag in _with_value(place)),
        flags="\n".join(f'        "{_key(program, place)}") words="{_flag_words(place)}" ;;' for place in everywhere),
        arguments="\n".join(_argument_case(program, place) for place in everywhere),
    )


def _names(flags: Iterable[Flag]) -> list[str]:
    return sorted({name for flag in flags for name in flag.names})


def _with_value(place: CommandLine) -> list[Flag]:
    return [flag for flag in place.flags if flag.value is not None]


def _key(program: CommandLine, place: CommandLine) -> str:
    """Return what $command is there; before a command it is empty."""
    return "" if place is program else place.name


def _value_case(program: CommandLine, place: CommandLine, flag: Flag) -> str:
    function = f"_{program.name.replace('-', '_')}"
    pattern = " | ".join(f'"{_key(program, place)} {name}"' for name in flag.names)
    if flag.is_file:
        action = f'{function}_files "$current" "$prefix"; return'
    elif flag.choices:
        action = f'{function}_words "{" ".join(flag.choices)}" "$current" "$prefix"; return'
    else:
        action = "return"
    return f"    {pattern}) {action} ;;"


def _flag_words(place: CommandLine) -> str:
    return " ".join(
        f"{name}=" if flag.value is not None and name.startswith("--") and not flag.value_optional else name
        for flag in place.flags
        for name in flag.names
    )


def _argument_case(program: CommandLine, place: CommandLine) -> str:
    """Return what completes a word without a dash: commands, values of an argument, or files."""
    words = [command.name for command in place.commands]
    words += [choice for argument in place.arguments for choice in argument.choices]
    actions = [f'words="{" ".join(words)}"']
    if any(argument.is_file for argument in place.arguments):
        actions += [f'_{program.name.replace("-", "_")}_files "$current" ""', "return"]
    return f'        "{_key(program, place)}") {"; ".join(actions)} ;;'

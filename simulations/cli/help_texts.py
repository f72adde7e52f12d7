"""Help of commands, out of their docstrings, which break their lines where the source does."""

from __future__ import annotations

import inspect

import typer


def join_help_lines(app: typer.Typer) -> None:
    """Give all commands help whose paragraphs are of one line each, so that any terminal wraps them well.

    Parameters
    ----------
    app : typer.Typer
        The application, whose commands are all there. Those of its groups are changed too.
    """
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            join_help_lines(group.typer_instance)

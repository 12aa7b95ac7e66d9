"""`farm completion`: what makes a shell complete the commands, options and names of `farm`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_PROGRAM = "farm"
_VARIABLE = "_FARM_COMPLETE"  # click answers to it, see `click.Command.main`


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script by which a shell completes `farm` with the Tab key.

    It completes commands, options, files, and what is known at the time: workers of a running farm,
    tools and results in its journal, dead letters, keys, models.

    \b
    Examples:
      farm completion bash > ~/.local/share/bash-completion/completions/farm
      farm completion zsh > "${fpath[1]}/_farm"        then start zsh anew
      farm completion fish > ~/.config/fish/completions/farm.fish
      source <(farm completion bash)                   for this shell alone
    """
    found = get_completion_class(shell)
    assert found is not None  # click has these three
    made = found(ctx.find_root().command, {}, _PROGRAM, _VARIABLE)
    # not `source()`: for bash it starts one, to look at its version
    click.echo((made.source_template % made.source_vars()).strip())

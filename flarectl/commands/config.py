"""flarectl config set | unset | get | show"""

from __future__ import annotations

import typer

from flarectl import completing, options
from flarectl.lean import LeanCommand, LeanGroup
from flarectl.profile import SETTINGS

app = typer.Typer(cls=LeanGroup, no_args_is_help=True, help="Keep settings in ~/.config/flare/config.toml.")
NAME = typer.Argument(
    ...,
    metavar="SETTING",
    show_default=False,
    help=f"One of: {', '.join(SETTINGS)}.",
    autocompletion=completing.settings,
)
VALUE = typer.Argument(..., metavar="VALUE", show_default=False, autocompletion=completing.setting_values)


@app.command("set", cls=LeanCommand)
def set_setting(name: str = NAME, value: str = VALUE) -> None:
    """Keep a setting.

    Such as: flarectl config set endpoint http://10.0.0.1:8000
    """
    from flarectl import render
    from flarectl.errors import Failure
    from flarectl.profile import read_secret, read_settings, write_setting

    path = write_setting(name, value)
    render.say(f"{name} is kept in {path}")
    if name == "secret_file":
        try:
            read_secret(read_settings()[name], str(path))
        except Failure as failure:  # the file may be created later
            render.complain(f"warning: {failure}")


@app.command("unset", cls=LeanCommand)
def unset_setting(name: str = NAME) -> None:
    """Forget a setting."""
    from flarectl import render
    from flarectl.profile import forget_setting

    render.say(f"{name} is no longer in {forget_setting(name)}")


@app.command("get", cls=LeanCommand)
def get_setting(name: str = NAME) -> None:
    """Print a setting as the file has it."""
    from flarectl import render
    from flarectl.errors import NotFound
    from flarectl.profile import check_setting, config_path, read_settings

    check_setting(name)
    if not (value := read_settings().get(name, "")):
        raise NotFound(f"{name} is not set in {config_path()}")
    render.say(value)


@app.command(cls=LeanCommand)
def show(ctx: typer.Context, endpoint: str = options.ENDPOINT) -> None:
    """Print the settings in force, and where each comes from."""
    from flarectl import render
    from flarectl.profile import config_path, find_endpoint, find_secret_file

    said = ctx.find_root().obj
    url, origin = find_endpoint(endpoint or (said.endpoint if isinstance(said, options.Globals) else ""))
    render.say(f'endpoint = "{url}"  # from {origin}')
    secret_file, origin = find_secret_file()
    if secret_file:
        render.say(f'secret_file = "{secret_file}"  # from {origin}')
    render.say(f"# the file is {config_path()}")

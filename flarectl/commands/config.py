"""flarectl config set | unset | get | show"""

from __future__ import annotations

import typer

from flarectl import completing, options
from flarectl.lean import LeanCommand, LeanGroup
from flarectl.settings import PATHS, SECRET, SETTINGS, URLS

app = typer.Typer(
    cls=LeanGroup,
    no_args_is_help=True,
    help="Keep settings in ~/.config/flare/config.toml; with --profile NAME, before config, those of a profile.",
)
NAME = typer.Argument(
    ...,
    metavar="SETTING",
    show_default=False,
    help=f"One of: {', '.join(SETTINGS)}.",
    autocompletion=completing.settings,
)
VALUE = typer.Argument(None, metavar="[VALUE]", show_default=False, autocompletion=completing.setting_values)
FILE = typer.Option(
    "",
    "--file",
    metavar="FILE",
    show_default=False,
    help="Read it from a file, or from - (standard input); one of key create --output has id and secret.",
    autocompletion=completing.local_paths,
)


@app.command("set", cls=LeanCommand)
def set_setting(name: str = NAME, value: str = VALUE, file: str = FILE) -> None:
    """Keep a setting.

    Such as: flarectl config set endpoint http://10.0.0.1:8000, or https://10.0.0.1:8000#SHA256 as flared init api
    printed it: then the authority of the cluster is kept as well, as ca_file. The secret_key is asked for, or comes
    from --file.
    """
    from flarectl import render
    from flarectl.errors import Failure, Usage
    from flarectl.profile import read_secret
    from flarectl.settings import check_setting, write_settings

    check_setting(name)
    if value is not None and (name == SECRET or file):
        raise Usage(
            f"a {SECRET} is never an argument, which others on this machine see: leave it out, and type it when asked"
            if name == SECRET
            else "give a VALUE or --file, not both"
        )
    found = _read(name, file) if file else {name: _ask(name) if value is None else value}
    if "#" in found.get("endpoint", ""):
        from flarectl.authority import learn_authority

        endpoint, authority = learn_authority(found["endpoint"])
        found |= {"endpoint": endpoint, "ca_file": str(authority)}
    kept = {one: _check(one, given) for one, given in found.items()}
    path = write_settings(kept)
    render.say(f"{' and '.join(kept)} {'are' if len(kept) > 1 else 'is'} kept in {path}")
    if name == "secret_file":
        try:
            read_secret(kept[name], str(path))
        except Failure as failure:  # the file may be created later
            render.complain(f"warning: {failure}")


@app.command("unset", cls=LeanCommand)
def unset_setting(name: str = NAME) -> None:
    """Forget a setting."""
    from flarectl import render
    from flarectl.settings import forget_setting

    render.say(f"{name} is no longer in {forget_setting(name)}")


@app.command("get", cls=LeanCommand)
def get_setting(name: str = NAME) -> None:
    """Print a setting as the file has it; the secret_key is never printed."""
    from flarectl import render
    from flarectl.errors import NotFound, Usage
    from flarectl.settings import check_setting, config_path, read_settings

    check_setting(name)
    if not (value := read_settings().get(name, "")):
        raise NotFound(f"{name} is not set in {config_path()}")
    if name == SECRET:
        raise Usage(f"{name} is set in {config_path()}, and is never printed")
    render.say(value)


@app.command(cls=LeanCommand)
def show(ctx: typer.Context, endpoint: str = options.ENDPOINT) -> None:
    """Print the settings in force, and where each comes from."""
    from flarectl import render
    from flarectl.profile import find_endpoint
    from flarectl.proof import find_key
    from flarectl.settings import config_path, find_setting, profile

    said = ctx.find_root().obj
    url, origin = find_endpoint(endpoint or (said.endpoint if isinstance(said, options.Globals) else ""))
    render.say(f'endpoint = "{url}"  # from {origin}')
    if key := find_key():
        render.say(f'access_key = "{key.access_key}"  # from {key.origin}, with its secret_key')
    for name in ("public_endpoint", *PATHS):
        if found := find_setting(name):
            render.say(f'{name} = "{found[0]}"  # from {found[1]}')
    render.say(f"# the file is {config_path()}{f', its profile {profile()}' if profile() else ''}")


def _ask(name: str) -> str:
    """Return the secret, asked for on the terminal. Raise Usage for any other setting."""
    import sys
    from getpass import getpass

    from flarectl.errors import Usage

    if name != SECRET:
        raise Usage(f"flarectl config set {name} takes a VALUE: {SETTINGS[name]}")
    if not sys.stdin.isatty():
        raise Usage(f"{name} is asked for on a terminal only; else name a file with it: --file FILE, or --file -")
    return getpass("secret key (it is not shown): ").strip()


def _read(name: str, file: str) -> dict[str, str]:
    from flarectl.credentials import read_credentials
    from flarectl.errors import Usage

    if name not in ("access_key", SECRET):
        raise Usage(f"--file is for access_key and {SECRET}; give {name} as a VALUE")
    return read_credentials(file, name)


def _check(name: str, value: str) -> str:
    """Return the setting as it is kept. Raise Usage for one that cannot be right."""
    import os

    from flarectl.errors import Usage
    from flarectl.profile import check_endpoint
    from flared.access.access_key import is_access_key_id

    if name in URLS:
        return check_endpoint(value, name)
    if name in PATHS:
        return os.path.abspath(value)
    if name == "access_key" and not is_access_key_id(value):
        raise Usage(f"{value[:40]!r} is not the id of an access key: FL and 18 capital letters or digits")
    if name == SECRET and not (value.isascii() and value.isprintable() and 8 <= len(value) <= 128 and " " not in value):
        raise Usage("this is not the secret of an access key: 40 letters, digits, '-' and '_'")
    return value

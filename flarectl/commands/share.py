"""flarectl share"""

from __future__ import annotations

import typer

from flarectl import completing, options

KEY = typer.Argument(..., metavar="[BUCKET:]KEY", show_default=False, autocompletion=completing.keys)
EXPIRES = typer.Option("1h", "--expires", metavar="TIME", help="How long the link works: 30min, 12h, at most 7d.")
PUT = typer.Option(False, "--put", help="A link to put the object, in place of one to get it.")


def share(
    ctx: typer.Context,
    key: str = KEY,
    expires: str = EXPIRES,
    put: bool = PUT,
    json: bool = options.JSON,
    endpoint: str = options.ENDPOINT,
) -> None:
    """Print a link that opens one object for a while, with plain curl or in a browser.

    Anyone who has it may use it, any number of times. It is signed with your access key: it may no more than the key,
    and ends with it.
    """
    import time

    from flarectl import render, sharing
    from flarectl.client import Client
    from flarectl.target import parse_target

    target, place = parse_target(key), options.endpoint_of(ctx, endpoint)
    target.object_key()
    seconds, signer = sharing.parse_expires(expires), sharing.find_signer()
    if not put:
        with Client(place) as client:  # a link to nothing, or one that the key may not open, is more likely a mistake
            client.head_named(target, "a link opens one object")
    method, until = "PUT" if put else "GET", int(time.time()) + seconds
    public = sharing.find_public(place)
    url = sharing.make_link(signer, public, method, target, until)
    if json:
        record = {"url": url, "method": method, "bucket": target.bucket, "key": target.key, "expires": until}
        return render.say_json(record)
    render.say(url)
    if sharing.is_loopback(public):
        render.remark(f"{public} leads to this machine only; for others: flarectl config set public_endpoint URL")
    return None

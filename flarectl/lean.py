"""Typer's commands without the validation that would load pydantic, which takes 90 ms, to check texts and flags.

Only here an empty argument or option becomes an error: an unset variable of a script must not name the default
bucket, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from typer.core import TyperCommand, TyperGroup

from flarectl.errors import Usage

if TYPE_CHECKING:
    import typer

T = TypeVar("T")


class Descriptor(Protocol):
    annotation: object


class Parameter(Protocol):
    """The class that newer versions of typer have for an option or argument."""

    type_descriptor: Descriptor
    multiple: bool
    nargs: int
    _runtime_param: AsGiven | None

    def get_runtime_param(self) -> AsGiven: ...


class AsGiven:
    """Replaces typer's validation of one parameter.

    Texts and defaults need no validation; any other value is passed to typer's.
    """

    def coerce(self, value: object, param: Parameter, ctx: typer.Context) -> object:
        annotation = param.type_descriptor.annotation
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        if annotation in (str, list[str]) or (isinstance(annotation, type) and isinstance(value, annotation)):
            return value
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


class LeanCommand(TyperCommand):
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as below
        rest: list[str] = super().parse_args(ctx, args)
        _check_named(self, ctx)
        return rest

    def get_params(self, ctx: typer.Context) -> list[object]:  # type: ignore[override]  # typer hides these classes
        return list(_as_given(super().get_params(ctx)))


class LeanGroup(TyperGroup):
    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # as below
        rest: list[str] = super().parse_args(ctx, args)
        _check_named(self, ctx)
        return rest

    def get_params(self, ctx: typer.Context) -> list[object]:  # type: ignore[override]  # typer hides these classes
        return list(_as_given(super().get_params(ctx)))


def _as_given(params: Sequence[T]) -> Sequence[T]:
    """Replace the validation in newer versions of typer; older ones have none and stay unchanged."""
    for param in params:
        if getattr(param, "_runtime_param", "") is None:
            setattr(param, "_runtime_param", AsGiven())  # noqa: B010  # unknown to older versions, and to mypy
        metavar = getattr(param, "metavar", None)
        if hasattr(param, "_usage_display_name") and metavar:
            # Older versions show our text as it is; newer ones put braces, dots and types around it.
            setattr(param, "_usage_display_name", lambda name=metavar: name)  # noqa: B010  # as above
            setattr(param, "display_type_rich", lambda ctx: None)  # noqa: B010  # as above
    return params


def _check_named(command: LeanCommand | LeanGroup, ctx: typer.Context) -> None:
    """Raise Usage for an argument or option whose value is empty or only white space."""
    if ctx.resilient_parsing:  # a shell asks for completions of an unfinished line
        return
    for param in command.get_params(ctx):
        name: str = getattr(param, "name", "") or ""
        source = ctx.get_parameter_source(name)
        given = ctx.params.get(name)
        values = given if isinstance(given, list | tuple) else (given,)
        if getattr(source, "name", "") == "COMMANDLINE" and any(_is_blank(value) for value in values):
            raise Usage(f"{_title(param)} is empty; was a variable not set? Nothing was done")


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()


def _title(param: object) -> str:
    options: list[str] = getattr(param, "opts", [])
    if getattr(param, "param_type_name", "") == "option":
        return max(options, key=len)
    return f"the argument {getattr(param, 'metavar', None) or options[0].upper()}"

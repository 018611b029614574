"""TableReader: reads the keys of a TOML table, and notes every mistake in it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flared.config.secret_files import read_handed_secrets, read_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")


class TableReader:
    """Reads the keys of a table one by one. Notes every mistake, and at the end every unknown key."""

    def __init__(self, table: Mapping[str, object], file: Path, *, handed: bool) -> None:
        self._values: dict[str, object] = {}
        self._known = ["role", "format"]
        self._file = file
        self._handed = handed
        self.mistakes: list[str] = []
        for key, value in table.items():
            if isinstance(value, dict):
                self._values.update({f"{key}.{inner}": item for inner, item in value.items()})
            else:
                self._values[key] = value

    def read(self, key: str, default: T | None, parse: Callable[[object], T]) -> T:
        """Return the value of ``key`` as ``parse`` returns it, or the default; None means that the key is required.

        ``parse`` raises ValueError with what is allowed. A mistake is noted, and the default returned instead.
        """
        self._known.append(key)
        if key not in self._values:
            if default is None:
                self.note(key, f"is missing; {self._rule(parse)}")
            return default  # type: ignore[return-value]  # a noted mistake ends in ConfigError before anyone looks
        try:
            return parse(self._values[key])
        except ValueError as error:
            self.note(key, f"{show(self._values[key])} is not allowed; {error}")
            return default  # type: ignore[return-value]  # as above

    def given(self, key: str) -> bool:
        return key in self._values

    def note(self, key: str, sentence: str) -> None:
        self.mistakes.append(f"{self._file}: {key}: {sentence}")

    def path(self, text: str) -> Path:
        return (self._file.parent / Path(text).expanduser()).absolute()

    def secrets(self, path: Path) -> tuple[bytes, ...]:
        """Return the secrets in this file; systemd passes only files beside our TOML file. Raise ValueError."""
        handed = self._handed and path.parent == self._file.absolute().parent
        return read_handed_secrets(path) if handed else read_secrets(path)

    def finish(self) -> None:
        """Note the keys that were not read, each with the key that was probably meant."""
        for key in self._values:
            if key not in self._known:
                self.note(key, f"is not a key of this role{_suggest(key, self._known)}")

    @staticmethod
    def _rule(parse: Callable[[object], T]) -> str:
        """Return what a parser allows: the sentence with which it refuses None."""
        try:
            parse(None)
        except ValueError as error:
            return str(error)
        return "give it a value"


def _suggest(key: str, known: Sequence[str]) -> str:
    """Return the key that was probably meant: one with a similar spelling, or the same word in another section."""
    word = key.rpartition(".")[2]
    alike = [name for name in known if name.rpartition(".")[2] == word] or difflib.get_close_matches(key, known, 1)
    return f"; did you mean {alike[0]}?" if alike else ""


def show(value: object) -> str:
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."

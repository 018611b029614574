"""XML as S3 writes and reads it: a writer of plain text, and a parser that takes no more than it needs. Pure.

The parser is that of the standard library (expat), with everything switched off that makes XML dangerous: a document
with a DTD, and so with entities, is refused; size, depth and number of elements are bounded; the encoding is UTF-8.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from xml.parsers import expat

from flared.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
DEPTH_MAX = 16
ELEMENTS_MAX = 10_000
"""The most common long document names 1,000 objects, each with a handful of elements."""

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile('[&<>"\x00-\x08\x0b-\x1f\x7f\x85\u2028\ufffe\uffff\ud800-\udfff]')
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


class MalformedXml(Refused):
    """The body is not XML as this call takes it."""

    @property
    def code(self) -> str:
        return "MalformedXML"


class Element(NamedTuple):
    """One element of a parsed document."""

    name: str
    """Without its namespace."""
    text: str
    """All characters directly inside it."""
    children: Sequence[Element]

    def find(self, name: str) -> Element | None:
        """Return the first child of this name."""
        return next((child for child in self.children if child.name == name), None)

    def find_all(self, name: str) -> list[Element]:
        return [child for child in self.children if child.name == name]

    def text_of(self, name: str, default: str = "") -> str:
        """Return the text of the first child of this name."""
        child = self.find(name)
        return default if child is None else child.text


# Writing


def escape(text: str) -> str:
    """Return text as XML has it. Control characters become references, as S3 writes them, though XML 1.0 has none."""
    return _SPECIAL.sub(_escape_one, text)


def element(name: str, content: str | int | bool) -> str:
    """Return an element that holds this text."""
    if content is True or content is False:
        content = "true" if content else "false"
    return f"<{name}>{escape(str(content))}</{name}>"


def group(name: str, inside: Iterable[str]) -> str:
    """Return an element that holds these elements."""
    return f"<{name}>{''.join(inside)}</{name}>"


def document(name: str, inside: Iterable[str], *, namespace: str = NAMESPACE) -> bytes:
    """Return a whole document, with these elements in its root."""
    start = f'{name} xmlns="{namespace}"' if namespace else name
    return f"{_HEAD}<{start}>{''.join(inside)}</{name}>".encode()


def _escape_one(match: re.Match[str]) -> str:
    character = match[0]
    return _ESCAPES.get(character) or f"&#x{ord(character):x};"


# Reading


def parse_xml(body: bytes, root: str, *, elements_max: int = ELEMENTS_MAX) -> Element:
    """Return the document in ``body``, whose root has this name. Raise MalformedXml.

    The caller has limited the size of the body.
    """
    reader = _Reader(elements_max)
    parser = expat.ParserCreate("UTF-8", namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.EntityDeclHandler = _refuse_doctype
    try:
        parser.Parse(body.decode(), True)
    except UnicodeDecodeError:
        raise MalformedXml("the XML you provided is not UTF-8") from None
    except expat.ExpatError as error:
        raise MalformedXml(f"the XML you provided is not well-formed: {expat.ErrorString(error.code)}") from None
    found = reader.root
    if found is None or found.name != root:
        raise MalformedXml(f"the XML you provided has the root {found.name[:80] if found else ''!r}, not {root!r}")
    return found


class _Reader:
    def __init__(self, elements_max: int) -> None:
        self._left = elements_max
        self.root: Element | None = None
        self._open: list[tuple[str, list[str], list[Element]]] = []

    def start(self, name: str, attributes: object) -> None:
        self._left -= 1
        if self._left < 0 or len(self._open) >= DEPTH_MAX:
            raise MalformedXml(f"the XML you provided has too many elements, or more than {DEPTH_MAX} levels of them")
        self._open.append((name.rpartition(" ")[2], [], []))

    def text(self, data: str) -> None:
        if self._open:
            self._open[-1][1].append(data)

    def end(self, name: str) -> None:
        local, texts, children = self._open.pop()
        closed = Element(local, "".join(texts), children)
        if self._open:
            self._open[-1][2].append(closed)
        else:
            self.root = closed


def _refuse_doctype(*_: object) -> None:
    raise MalformedXml("the XML you provided has a document type, which is not allowed")

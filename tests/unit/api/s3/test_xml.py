from __future__ import annotations

import contextlib
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.s3.xml import DEPTH_MAX, MalformedXml, document, element, escape, group, parse_xml

PLAIN = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"))


def check_refused(body: bytes, root: str = "a", *, elements_max: int = 100) -> None:
    with pytest.raises(MalformedXml):
        parse_xml(body, root, elements_max=elements_max)


@given(PLAIN, PLAIN)
def test_what_is_written_is_read_back(first: str, second: str) -> None:
    body = document("Root", [element("One", first), group("Two", [element("Inner", second)])])
    found = parse_xml(body, "Root")
    assert found.text_of("One") == first
    two = found.find("Two")
    assert two is not None
    assert two.text_of("Inner") == second
    assert ElementTree.fromstring(body).tag == "{http://s3.amazonaws.com/doc/2006-03-01/}Root"


@given(st.text())
def test_every_text_can_be_written(text: str) -> None:
    element("a", text).encode()


def test_line_ends_and_control_characters_survive() -> None:
    assert escape("a\r\n\tb\x01") == "a&#xd;\n\tb&#x1;"
    assert parse_xml(document("a", [element("b", "\r\n")]), "a").text_of("b") == "\r\n"


def test_namespaces_do_not_matter() -> None:
    for head in ("<a>", '<a xmlns="http://s3.amazonaws.com/doc/2006-03-01/">', '<a xmlns="urn:x">'):
        assert parse_xml(f"{head}<b>1</b></a>".encode(), "a").text_of("b") == "1"
    assert parse_xml(b'<n:a xmlns:n="urn:x"><n:b>1</n:b></n:a>', "a").text_of("b") == "1"


def test_children_are_found_by_name() -> None:
    found = parse_xml(b"<a><b>1</b><c/><b> 2 </b>x</a>", "a")
    assert [child.text for child in found.find_all("b")] == ["1", " 2 "]
    assert found.find("d") is None
    assert found.text_of("d", "none") == "none"
    assert found.text == "x"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"<a>", b"<b/>", b"<a></b>", b"<a/><a/>", b"\xff\xfe<\0a\0/\0>\0", b"<a>\xff</a>", b"<a>&x;</a>",
        b"<a>\0</a>",
        b'<!DOCTYPE a><a/>',
        b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b'<!DOCTYPE a [<!ENTITY % x SYSTEM "http://e/"> %x;]><a/>',
        b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;">]><a>&d;</a>',
        b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1),
        b"<a>" + b"<b/>" * 100 + b"</a>",
        b"<a xmlns:x='y'><x:b></b></a>",
    ],
)  # fmt: skip
def test_what_is_not_plain_xml_is_refused(body: bytes) -> None:
    check_refused(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    with contextlib.suppress(MalformedXml):
        parse_xml(body, "a")


@given(st.lists(st.sampled_from([b"<a>", b"</a>", b"<b x='1'>", b"</b>", b"&lt;", b"<![CDATA[x]]>", b"<!--", b"-->"])))
def test_any_markup_is_parsed_or_refused(parts: list[bytes]) -> None:
    with contextlib.suppress(MalformedXml):
        parse_xml(b"<a>" + b"".join(parts) + b"</a>", "a")


def test_another_encoding_than_utf_8_is_not_believed() -> None:
    """The parser takes every body for UTF-8, so no two programs read it differently."""
    found = parse_xml('<?xml version="1.0" encoding="ISO-8859-1"?><a>ä</a>'.encode(), "a")
    assert found.text == "ä"

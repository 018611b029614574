from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flared.api.forms import FormFile, FormParser, Mark, Part, parse_boundary, parse_part_head
from flared.errors import BadRequest

CURL = (
    b"--------------------------f00d\r\n"
    b'Content-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    b"--------------------------f00d\r\n"
    b'Content-Disposition: form-data; name="file"; filename="x.txt"\r\nContent-Type: text/plain\r\n\r\n'
    b"%b\r\n"
    b"--------------------------f00d--\r\n"
)
BOUNDARY = b"------------------------f00d"


class Pieces:
    """A body that arrives in these pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = [piece for piece in pieces if piece]

    async def receive_into(self, buffer: memoryview) -> int:
        if not self._pieces:
            return 0
        piece = self._pieces.pop(0)
        count = min(len(piece), len(buffer))
        buffer[:count] = piece[:count]
        if piece[count:]:
            self._pieces.insert(0, piece[count:])
        return count


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


async def read(data: bytes, size: int = 1 << 20, boundary: bytes = BOUNDARY) -> tuple[Part, bytes]:
    file = FormFile(Pieces(cut(data, size)), boundary)
    part = await file.open()
    content = bytearray()
    buffer = memoryview(bytearray(1000))
    while count := await file.receive_into(buffer):
        content += buffer[:count]
    assert await file.receive_into(buffer) == 0
    return part, bytes(content)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"\r",
        b"\r\n",
        b"\r\n--",
        b"\r\n--" + BOUNDARY[:-1],
        b"\r\n--" + BOUNDARY + b"x\r\n",
        b"\r\n--" + BOUNDARY + b"-x",
        b"\r\n--" + BOUNDARY + b" " * 100 + b"\r\n",
        b"\r\r\n" * 50,
        bytes(range(256)) * 1000,
    ],
)
async def test_a_file_comes_out_as_it_went_in(content: bytes, size: int) -> None:
    if len(content) > 10_000 and size < 64:
        size = 61
    part, got = await read(CURL % content, size)
    assert part == Part("file", "x.txt", "text/plain")
    assert got == content


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
async def test_fields_before_the_file_are_kept(size: int) -> None:
    form = (
        b'--b\r\nContent-Disposition: form-data; name="Key"\r\n\r\na\r\n--b\r\n'
        b'Content-Disposition: form-data; name="key"; filename="key"\r\n\r\nb\r\n--b\r\n'
        b'Content-Disposition: form-data; name="raw"\r\n\r\n\xff\r\n--b\r\n'
        b'Content-Disposition: form-data; name="file"\r\n\r\nbytes\r\n--b\r\n'
        b'Content-Disposition: form-data; name="late"\r\n\r\nx\r\n--b--\r\n'
    )
    file = FormFile(Pieces(cut(form, size)), b"b", lambda part: part.name == "file")
    assert await file.open() == Part("file", None, None)
    assert await file.read_all(100) == b"bytes"
    assert file.fields == {"key": b"a", "raw": b"\xff"}


@given(
    content=st.lists(st.sampled_from([b"\r", b"\n", b"-", b"b", b" ", b"\r\n--b", b"x"])).map(b"".join),
    size=st.integers(1, 9),
)
def test_where_the_pieces_are_cut_changes_nothing(content: bytes, size: int) -> None:
    form = b'--b\r\nContent-Disposition: form-data; filename="f"\r\n\r\n' + content + b"\r\n--b--\r\n"
    assert events(form, size) == events(form, len(form))


def events(form: bytes, size: int) -> list[object]:
    parser = FormParser(b"b")
    found: list[object] = []
    for piece in [*cut(form, size), b""]:
        parser.receive(piece)
        try:
            while (event := parser.next_event()) not in (Mark.NEED_DATA, Mark.END):
                if isinstance(event, bytes) and found and isinstance(found[-1], bytes):
                    found[-1] += event
                else:
                    found.append(event)
        except BadRequest as error:
            found.append(str(error))
            break
    return found


@pytest.mark.parametrize(
    ("form", "word"),
    [
        (CURL[:-4] % b"x", "ends before"),
        (CURL.replace(b'; filename="x.txt"', b"") % b"x", "no file"),
        ((CURL[:-4] % b"x") + b"\r\n" + CURL % b"y", "more than one file"),
        (b"", "ends before"),
        (b"--" + BOUNDARY + b"--", "no file"),
        (b"x" * 100_000, "beside its file"),
        (CURL % b"x" + b"x" * 200_000, "beside its file"),
        (b"--" + BOUNDARY + b"\r\n" + b"x" * 20_000, "longer than"),
        (b"--" + BOUNDARY + b"\r\nX: y\r\n\r\nx", "Content-Disposition"),
        (b"--" + BOUNDARY + b"\r\n\r\nx", "Content-Disposition"),
    ],
)
async def test_what_is_no_form_with_one_file_is_refused(form: bytes, word: str) -> None:
    for size in (1000, 1 << 20):
        with pytest.raises(BadRequest, match=word):
            await read(form, size)


def check_name(field: str, name: str | None) -> None:
    assert parse_part_head(f"content-disposition: form-data; {field}\r\n".encode()).filename == name


def test_file_names_of_browsers_and_curl() -> None:
    check_name('name="a"; filename="x y;z.txt"', "x y;z.txt")
    check_name("filename=plain.txt ; name=a", "plain.txt")
    check_name('filename="a%22b"', 'a"b')
    check_name('filename="a\\"b\\\\c"', 'a"b\\c')
    check_name('filename="100%25"', "100%25")
    check_name('filename="grün.txt"', "grün.txt")
    check_name('name="filename"', None)


def test_a_type_that_would_break_the_reply_is_refused() -> None:
    with pytest.raises(BadRequest, match="ASCII"):
        parse_part_head(b'content-disposition: form-data; filename="x"\r\ncontent-type: a\rb\r\n')


def test_boundaries() -> None:
    assert parse_boundary('Multipart/Form-Data; charset=utf-8; boundary="a b"') == b"a b"
    assert parse_boundary("multipart/form-data; boundary=----WebKitX") == b"----WebKitX"
    for wrong in (
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
    ):
        with pytest.raises(BadRequest):
            parse_boundary(wrong)

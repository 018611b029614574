from __future__ import annotations

from flared.access.sealing import IV_BYTES, Opened, seal, unseal

OLD, NEW = b"the secret of the cluster", b"the next secret of it"
ID, SECRET = "FL" + "A" * 18, "s" * 40


def sealed(by: bytes = OLD) -> bytes:
    return seal(by, SECRET, ID, "laptop", bytes(IV_BYTES))


def test_what_was_sealed_opens() -> None:
    assert unseal([OLD], sealed(), ID, "laptop") == Opened(SECRET, newest=True)
    assert SECRET.encode() not in sealed()


def test_each_secret_of_a_replacement_opens_and_the_older_one_is_known_as_such() -> None:
    assert unseal([NEW, OLD], sealed(), ID, "laptop") == Opened(SECRET, newest=False)
    assert unseal([NEW, OLD], sealed(NEW), ID, "laptop") == Opened(SECRET, newest=True)
    assert unseal([NEW], sealed(), ID, "laptop") is None
    assert unseal([], sealed(), ID, "laptop") is None


def test_it_opens_only_for_its_own_key() -> None:
    assert unseal([OLD], sealed(), "FL" + "B" * 18, "laptop") is None
    assert unseal([OLD], sealed(), ID, "other") is None


def test_altered_or_cut_it_does_not_open() -> None:
    whole = sealed()
    for place in range(len(whole)):
        altered = bytearray(whole)
        altered[place] ^= 1
        assert unseal([OLD], bytes(altered), ID, "laptop") is None
        assert unseal([OLD], whole[:place], ID, "laptop") is None

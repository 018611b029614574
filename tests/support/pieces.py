"""Looking behind the api node: what do the data nodes really hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flared.access.keys import authorization, node_token
from tests.support.client import NO_ANSWER

if TYPE_CHECKING:
    from tests.support.daemons import Cluster

NO_PIECES_SECONDS = 120.0


def data_fields(cluster: Cluster, name: str) -> dict[str, str]:
    """The credentials that a call to this data node must carry."""
    return {"authorization": authorization(node_token(cluster.secret.encode(), f"data:{name}"))}


def piece_count(cluster: Cluster, name: str) -> int:
    """Pieces on this node, counted in its inventory; -1 if it does not answer."""
    client = cluster.client(name)
    count, after = 0, ""
    try:
        while True:
            answer = client.call("GET", f"/chunks?limit=1000&after={after}", fields=data_fields(cluster, name))
            if answer.status != 200:
                return -1
            page = answer.json()
            pieces, after = page["pieces"], str(page["next"] or "")
            assert isinstance(pieces, list)
            count += len(pieces)
            if not after:
                return count
    except NO_ANSWER:
        return -1
    finally:
        client.close()


def wait_for_no_pieces(cluster: Cluster, seconds: float = NO_PIECES_SECONDS) -> None:
    """With the graces set short, nothing that no object needs may stay."""
    counts: dict[str, int] = {}

    def all_gone() -> bool:
        counts.update({name: piece_count(cluster, name) for name in cluster.data_names()})
        return not any(counts.values())

    try:
        cluster.wait_until(all_gone, "pieces stay that no object needs", seconds)
    except AssertionError as error:
        raise AssertionError(f"pieces left: {counts}\n{error}") from error

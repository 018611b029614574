"""The admin face: its calls bound to its routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flared.api.admin import routes
from flared.api.errors import JSON_ERRORS
from flared.api.face import Face, claiming, on_nothing

if TYPE_CHECKING:
    from flared.api.admin.certificates import CertificateCalls
    from flared.api.admin.joining import Joining
    from flared.api.admin.keys import KeyCalls
    from flared.api.admin.metadata import MetadataCalls
    from flared.api.admin.nodes import NodeCalls
    from flared.api.admin.orphans import OrphanCalls
    from flared.api.admin.status import StatusCalls
    from flared.api.callers import Callers


@dataclass(frozen=True, slots=True)
class AdminCalls:
    status: StatusCalls
    nodes: NodeCalls
    joining: Joining
    certificates: CertificateCalls
    orphans: OrphanCalls
    metadata: MetadataCalls
    keys: KeyCalls


def admin_face(calls: AdminCalls, callers: Callers) -> Face:
    handlers = {
        routes.STATUS: calls.status.status,
        routes.HEALTH: calls.status.health,
        routes.READY: calls.status.ready,
        routes.METRICS: calls.status.metrics,
        routes.HEARTBEAT: calls.nodes.heartbeat,
        routes.FAILURE_COST: calls.nodes.failure,
        routes.REMOVAL_COST: calls.nodes.removal_cost,
        routes.REMOVE_NODE: calls.nodes.remove_node,
        routes.READMIT_NODE: calls.nodes.readmit_node,
        routes.SHOW_ORPHANS: calls.orphans.show,
        routes.ALLOW_ORPHANS: calls.orphans.allow,
        routes.SHOW_METADATA: calls.metadata.show,
        routes.ACCEPT_METADATA: calls.metadata.accept,
        routes.SHOW_KEYS: calls.keys.show,
        routes.CREATE_KEY: calls.keys.create,
        routes.REPLACE_KEY: calls.keys.replace,
        routes.REMOVE_KEY: calls.keys.remove,
        routes.INVITE: calls.joining.invite,
        routes.JOIN: calls.joining.join,
        routes.ISSUE_CERTIFICATE: calls.certificates.issue,
        routes.SHOW_AUTHORITY: calls.certificates.show_authority,
    }
    bound = {call: claiming(callers.keys.kv, on_nothing(answer)) for call, answer in handlers.items()}
    return Face(routes.FACE, routes.ROUTES, bound, callers.find, JSON_ERRORS)

"""The paths of the admin face, and what each call does. Pure."""

from __future__ import annotations

from flared.access.authorize import Action
from flared.api.router import Call, Methods, Routes

FACE = "admin"

STATUS = Call(FACE, "status", Action.STATUS)
HEALTH = Call(FACE, "health", Action.HEALTH)
READY = Call(FACE, "ready", Action.STATUS)
METRICS = Call(FACE, "metrics", Action.METRICS)
HEARTBEAT = Call(FACE, "heartbeat", Action.HEARTBEAT)
FAILURE_COST = Call(FACE, "failure_cost", Action.STATUS)
REMOVAL_COST = Call(FACE, "removal_cost", Action.STATUS)
REMOVE_NODE = Call(FACE, "remove_node", Action.OPERATE)
READMIT_NODE = Call(FACE, "readmit_node", Action.OPERATE)
SHOW_ORPHANS = Call(FACE, "show_orphans", Action.STATUS)
ALLOW_ORPHANS = Call(FACE, "allow_orphans", Action.OPERATE)
SHOW_METADATA = Call(FACE, "show_metadata", Action.STATUS)
ACCEPT_METADATA = Call(FACE, "accept_metadata", Action.OPERATE)
SHOW_KEYS = Call(FACE, "show_keys", Action.KEYS)
CREATE_KEY = Call(FACE, "create_key", Action.KEYS)
REPLACE_KEY = Call(FACE, "replace_key", Action.KEYS)
REMOVE_KEY = Call(FACE, "remove_key", Action.KEYS)
INVITE = Call(FACE, "invite", Action.INVITE)
JOIN = Call(FACE, "join", Action.JOIN)
ISSUE_CERTIFICATE = Call(FACE, "issue_certificate", Action.JOIN)
SHOW_AUTHORITY = Call(FACE, "show_authority", Action.JOIN)

ROUTES = Routes(
    {
        "/status": Methods({"GET": STATUS, "HEAD": STATUS}),
        "/healthz": Methods({"GET": HEALTH, "HEAD": HEALTH}),
        "/readyz": Methods({"GET": READY, "HEAD": READY}),
        "/metrics": Methods({"GET": METRICS, "HEAD": METRICS}),
        "/cluster/heartbeat": Methods({"POST": HEARTBEAT}),
        "/cluster/failure": Methods({"GET": FAILURE_COST}),
        "/cluster/node": Methods({"GET": REMOVAL_COST, "DELETE": REMOVE_NODE, "PUT": READMIT_NODE}),
        "/cluster/orphans": Methods({"GET": SHOW_ORPHANS, "DELETE": ALLOW_ORPHANS}),
        "/cluster/metadata": Methods({"GET": SHOW_METADATA, "PUT": ACCEPT_METADATA}),
        "/cluster/key": Methods({"GET": SHOW_KEYS, "POST": CREATE_KEY, "PUT": REPLACE_KEY, "DELETE": REMOVE_KEY}),
        "/cluster/invite": Methods({"POST": INVITE}),
        "/cluster/join": Methods({"POST": JOIN}),
        "/cluster/certificate": Methods({"POST": ISSUE_CERTIFICATE}),
        "/cluster/ca": Methods({"GET": SHOW_AUTHORITY, "HEAD": SHOW_AUTHORITY}),
    }
)

"""A report as JSON for scripts; docs/reference/status.md describes it."""

import json
from typing import Any

from pgslot.diagnosis.failover_readiness import Readiness
from pgslot.snapshot.rows import Transaction
from pgslot.status import wording
from pgslot.status.advice import advice
from pgslot.status.explanation import explanation
from pgslot.status.node_status import NodeStatus
from pgslot.status.report import Report
from pgslot.status.slot_status import SlotStatus
from pgslot.status.step import Step


def as_json(report: Report, *, looked_at: float, explained: bool = False, indent: int | None = 2) -> str:
    """
    Return one object, in ASCII.

    `looked_at`: Unix time. `explained`: each slot also has its paragraphs. `indent` None: all on one line.
    """
    result = {
        "looked_at": looked_at,
        "exit_code": report.exit_code,
        "problems": list(report.problems),
        "unseen": list(report.unseen),
        "nodes": [_node(node) for node in report.nodes],
        "slots": [
            _slot(slot) | ({"explanation": list(explanation(slot))} if explained else {}) for slot in report.slots
        ],
    }
    return json.dumps(result, indent=indent)


def _node(node: NodeStatus) -> dict[str, Any]:
    return {
        "cluster": node.cluster,
        "node": node.node,
        "role": node.role,
        "version": node.version,
        "observed_seconds": node.observed_seconds,
        "failures": {name: str(status) for name, status in node.failures.items()},
        "error": node.error or None,
        "refused": {name: str(status) for name, status in node.refused.items()},
        "hidden": [
            {"what": hidden.what, "statement": hidden.statement, "needed": hidden.needed} for hidden in node.hidden
        ],
    }


def _slot(status: SlotStatus) -> dict[str, Any]:
    return {
        "cluster": status.cluster,
        "node": status.node,
        "on_primary": status.on_primary,
        "slot_name": status.slot_name,
        "database": status.database,
        "slot_type": status.slot_type,
        "state": status.state,
        "severity": status.severity.name.lower(),
        "concerns": list(status.concerns),
        "unseen": list(status.unseen),
        "cause": status.cause,
        "why": wording.why(status),
        "user": _user(status),
        "culprit_known": status.culprit is not None,
        "culprits": [_transaction(transaction) for transaction in status.culprits],
        "held_bytes": status.held_bytes,
        "growth_bytes_per_second": None if status.growth is None else status.growth.bytes_per_second,
        "growth_seconds": None if status.growth is None else status.growth.seconds,
        "room_bytes": None if status.room is None else status.room.left_bytes,
        "room_limit": None if status.room is None else status.room.limit,
        "seconds_left": status.seconds_left,
        "frees_bytes": status.frees_bytes,
        "wait_seconds": None if status.creation is None else status.creation.creation.wait_seconds,
        "failover_slot": status.is_failover_slot,
        "failover": [_readiness(copy) for copy in status.failover],
        "steps": [_step(step) for step in advice(status)],
    }


def _user(status: SlotStatus) -> dict[str, Any] | None:
    user = status.user
    if user is None:
        return None
    return {
        "pid": user.pid,
        "usename": user.usename,
        "application_name": user.application_name,
        "client_addr": user.client_addr,
    }


def _transaction(transaction: Transaction) -> dict[str, Any]:
    prepared = transaction.pid is None
    return {
        "pid": transaction.pid,
        "gid": transaction.application_name if prepared else None,
        "database": transaction.datname,
        "usename": transaction.usename,
        "application_name": None if prepared else transaction.application_name,
        "state": transaction.state,
        "age_seconds": transaction.age_seconds,
        "xid": transaction.xid,
    }


def _readiness(copy: Readiness) -> dict[str, Any]:
    return {"node": copy.node, "ready": copy.ready, "reason": copy.not_ready_reason, "lag_bytes": copy.lag_bytes}


def _step(step: Step) -> dict[str, Any]:
    return {
        "text": step.text,
        "command": step.command,
        "node": step.node,
        "costs": step.costs,
        "frees": step.frees,
        "runbook": step.runbook,
    }

"""All remedies, by the name in the alerts' label `heal`. A third remedy is one more line here."""

from healer.remedies.base import AnyRemedy
from healer.remedies.force_snapshot.remedy import ForceSnapshot
from healer.remedies.terminate.remedy import EndTransaction

FORCE_SNAPSHOT = ForceSnapshot()
END_TRANSACTION = EndTransaction()

REMEDIES: dict[str, AnyRemedy] = {remedy.name: remedy for remedy in (FORCE_SNAPSHOT, END_TRANSACTION)}

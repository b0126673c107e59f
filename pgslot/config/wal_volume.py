"""Reads where a node keeps its WAL, and how much room there is: `wal_volume` and `wal_volume_labels`."""

from dataclasses import replace

from pgslot.config import keys as sections
from pgslot.config.model import WalVolume
from pgslot.config.yaml_values import Value

_PAIRS = "instance and mountpoint, or namespace and persistentvolumeclaim"
_FILESYSTEM = ("instance", "mountpoint")
_CLAIM = ("namespace", "persistentvolumeclaim")


def read_wal_volume(keys: dict[str, Value], default: WalVolume) -> WalVolume:
    """Return the volume that a section's keys describe; what they do not say is the default's. Raises ConfigError."""
    volume = default
    if "wal_volume" in keys:
        volume = replace(volume, size_bytes=keys["wal_volume"].size())
    if "wal_volume_labels" in keys:
        volume = _with_labels(volume, keys["wal_volume_labels"])
    return volume


def _with_labels(volume: WalVolume, section: Value) -> WalVolume:
    keys = section.mapping(f"a mapping with {_PAIRS}", sections.WAL_VOLUME_LABELS.names)
    labels = {
        name: value.string("the value of a label, in quotes if it reads as something else")
        for name, value in keys.items()
    }
    for name, text in labels.items():
        if not text:
            raise keys[name].error("the value of a label")
    if labels.keys() == set(_FILESYSTEM):
        return replace(volume, filesystem=(labels["instance"], labels["mountpoint"]), claim=None)
    if labels.keys() == set(_CLAIM):
        return replace(volume, filesystem=None, claim=(labels["namespace"], labels["persistentvolumeclaim"]))
    raise section.error(_PAIRS, ", ".join(labels) or "neither")

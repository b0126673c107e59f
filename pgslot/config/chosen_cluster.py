"""The cluster that a command line names."""

from pgslot.cli.errors import ConfigError
from pgslot.config.model import Cluster, Config


def chosen_cluster(config: Config, name: str, where: str = "command line") -> Cluster:
    """Return the cluster of this name; `where`: the flag or place that names it. Raises ConfigError: there is none."""
    clusters = {cluster.name: cluster for cluster in config.clusters}
    if name not in clusters:
        raise ConfigError(f"{where}: expected one of the clusters {', '.join(clusters)}, found {name!r}")
    return clusters[name]

"""
Writes what deploy/ has from other sources: `make kubernetes`, or `python -m deploy.kubernetes.generate`.

That is operator/prometheusrule.yaml, from alerts/pgslot.rules.yml with its comments, and the generated files of the
Helm chart. With --check it writes nothing and ends with 1 if a file is out of step. A folder as argument stands for
deploy/.
"""

import argparse
import sys
from pathlib import Path

from dashboards.files import put
from deploy.helm.chart_files import RULES, chart_files

DEPLOY = Path(__file__).parents[1]

HEAD = """\
# Made from alerts/pgslot.rules.yml by "make kubernetes": change that file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pg-slot-healer
  labels: {app.kubernetes.io/part-of: pg-slot-healer}
spec:
"""


def manifest(rules: str) -> str:
    """Return the PrometheusRule for a rule file, whose text becomes the spec."""
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in rules.splitlines(keepends=True))


def generated(deploy: Path = DEPLOY) -> dict[Path, str]:
    """Return the text of each generated file below this folder."""
    rule = deploy / "kubernetes/operator/prometheusrule.yaml"
    return {rule: manifest(RULES.read_text("utf-8"))} | chart_files(deploy / "helm/pg-slot-healer")


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the files are in step")
    parser.add_argument("folder", nargs="?", type=Path, default=DEPLOY)
    options = parser.parse_args()
    return put(generated(options.folder), "its source", check=options.check, target="kubernetes")


if __name__ == "__main__":
    sys.exit(main())

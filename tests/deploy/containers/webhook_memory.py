"""
Sends a healer what takes most memory, and expects the right answers:

python -m tests.deploy.containers.webhook_memory URL TOKEN_FILE CLUSTER NODE
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests

from tests.support.builders.large_webhooks import gzip_bomb, ten_thousand_alerts, worst_bodies

SENDERS = 12


def main(url: str, token_file: str, cluster: str, node: str) -> None:
    """Send all bodies; raises AssertionError at the first unexpected answer."""
    authorization = {"Authorization": f"Bearer {Path(token_file).read_text('utf-8').strip()}"}

    def post(body: bytes, coding: str = "identity") -> requests.Response:
        headers = authorization | {"Content-Encoding": coding}
        return requests.post(f"{url}/alerts", data=body, headers=headers, timeout=60)

    bomb, worst = gzip_bomb(), worst_bodies()
    refused = post(bomb, "gzip")
    assert refused.status_code == 415, refused.text
    for name, body in worst.items():
        assert post(body).status_code == 400, name
    with ThreadPoolExecutor(SENDERS) as senders:
        answers = [answer.status_code for answer in senders.map(post, [worst["labels"]] * SENDERS)]
    assert set(answers) <= {400, 503}, answers
    unknown = post(ten_thousand_alerts("nosuch", node))
    assert (unknown.status_code, unknown.text) == (200, "ignored_unknown_cluster=10000\n")
    # An episode has a limit of slots: 503 lets Alertmanager send the rest again.
    ours = post(ten_thousand_alerts(cluster, node))
    assert ours.status_code == 503, ours.text
    print(f"        {len(bomb) // 1024} KiB of gzip: refused")
    print(f"        {len(worst)} worst bodies, and {SENDERS} at once: answered")
    print(f"        10,000 alerts: {unknown.text.strip()}; {ours.text.strip()}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A long job that says how far it has come. It knows no Flask, only the log that the server reads.

python examples/progress/job.py
"""

import secrets
import time
from pathlib import Path

from streaming import Publisher

FOLDER = Path(__file__).parent / "instance"
FOLDER.mkdir(exist_ok=True)
LOG = f"sqlite:///{FOLDER}/streaming.db"  # for all processes of a machine; of many: "redis://…"


def work(id: str, rows: int = 100) -> None:
    channel = f"job:{id}"
    with Publisher(LOG) as publisher:
        try:
            for done in range(rows + 1):
                # Each message says all there is to know: the last one is enough for a newcomer.
                publisher.publish(channel, {"done": done, "of": rows})
                time.sleep(0.05)  # something takes its time
        except BaseException:
            publisher.publish(channel, {"failed": True})
            raise


if __name__ == "__main__":
    id = secrets.token_urlsafe(12)
    print(f"Watch it at http://127.0.0.1:5000/jobs/{id}", flush=True)
    work(id)

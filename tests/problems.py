"""What a refusal looks like to a client over HTTP (RFC 9457)."""

import json

from werkzeug.test import TestResponse


def check_problem(answer: TestResponse, status: int, part: str = "") -> None:
    """``answer`` is a problem with this status, and ``part`` of its detail."""
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    problem = json.loads(answer.data)
    assert problem.keys() == {"type", "title", "status", "detail"}
    assert problem["status"] == status
    assert problem["title"]
    assert part in problem["detail"]

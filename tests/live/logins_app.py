"""The example with logins; answers say which worker they are of."""

import os

from flask import Response

from examples.logins import app

__all__ = ["app"]


@app.after_request
def name_worker(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response

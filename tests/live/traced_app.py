"""An application that is traced as docs/observing.md has it; each worker's spans in a file."""

import os
import re
from pathlib import Path

from flask import Flask
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from streaming import Streaming

app = Flask("traced")
app.config["STREAMING_LOG"] = os.environ["STREAMING_LOG"]
streaming = Streaming(app, authorize=lambda action, channel: True)

page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text("utf-8")
(block,) = re.findall(r"```python\n([^`]*TracerProvider[^`]*)```", page)
shown = {"app": app}
exec(compile(block, "docs/observing.md", "exec"), shown)

file = open(f"{os.environ['SPANS']}/{os.getpid()}", "a", encoding="utf-8")  # noqa: SIM115
shown["provider"].add_span_processor(  # type: ignore[attr-defined]
    SimpleSpanProcessor(
        ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\n")
    )
)

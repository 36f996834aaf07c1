"""`pcc serve`: the HTTP server around the champion."""

from __future__ import annotations

import sys
from argparse import Namespace

from pcc_pipeline.command_line import options as of
from pcc_pipeline.command_line.commands.step_commands import add_options, configuration
from pcc_pipeline.command_line.options import Option, unless_left_out
from pcc_pipeline.command_line.parser import Parser
from pcc_pipeline.command_line.running import exit_code, imports, log

DESCRIPTION = "Answer messages over HTTP by the champion, and by the next one as soon as it is promoted."
EPILOG = """\
examples:
  %(prog)s                                     the champion, at http://127.0.0.1:8000
  %(prog)s --model models:/pcc-intent-classifier@challenger --port 0
  %(prog)s --new-token web                     make a token for a caller called web; it is shown once
  %(prog)s --host 0.0.0.0 --set serving.accounts=tokens

It prints a line to try it with. What it answers:

  POST /v1/classify   {"text": "…"} or {"cases": [{"case_id": "…", "text": "…"}, …]}
  POST /invocations   as `mlflow models serve` does, and so /ping and /version
  GET  /healthz, /readyz, /metrics (Prometheus), /openapi.json

A promotion, or a rollback, is taken up within seconds, between two requests; a version that cannot answer is refused,
and the one before goes on. SIGTERM or Ctrl-C ends it once it has answered what it took. Every option stands in
params.yaml under `serving`, and ab_test.challenger_share and ab_test.shadow give the challenger a part. It needs the
extra `serve` (pip install -c constraints.txt -e '.[serve]'); `make serve` installs it.
"""
_MODEL = Option("model", f"what to serve: {of.words(*of.ADDRESSES)}; default: the champion", is_file=False)
_HOST = Option("host", "the address to listen at; default: serving.host")
_PORT = Option("port", "the port; 0 takes a free one; default: serving.port")
_WORKERS = Option("workers", "how many processes; default: serving.workers")
_NEW_TOKEN = Option(
    "new_token", "add a token for a caller of this name to serving.tokens_file, and end", metavar="NAME"
)
_OPTIONS = (_MODEL, _HOST, _PORT, _WORKERS, _NEW_TOKEN)


class ServeCommand:
    """`pcc serve`."""

    def add_options(self, parser: Parser) -> None:
        """Make the options those of this parser."""
        add_options(parser, _OPTIONS)

    def run(self, options: Namespace) -> int:
        """Serve until a signal comes; the exit code."""

        def answer() -> str:
            values = {option.name: unless_left_out(getattr(options, option.name)) for option in _OPTIONS}
            options.set += [
                f"serving.{name}={value}" for name in ("host", "port", "workers") if (value := values[name]) is not None
            ]
            with imports():
                params = configuration(options, ())
                if (name := values["new_token"]) is not None:
                    from pcc_pipeline.config.paths import local_path
                    from pcc_pipeline.serving.access import new_token

                    path = local_path(params.serving.tokens_file)
                    return f"token of {name}, which is shown this once:\n{new_token(path, name)}\nits hash is in {path}"
                from pcc_pipeline.serving import server

            def ready(address: str, version: str | None) -> None:
                lines = [
                    f"\nserving    {version or 'no version yet: see the log'} at {address}",
                    *(
                        f"{'try it:    ' if not place else ' ' * 11}{line}"
                        for place, line in enumerate(server.example(address, params.serving))
                    ),
                    f"look:      {address}/readyz, /metrics, /openapi.json",
                    "end:       Ctrl-C, or SIGTERM",
                ]
                print("\n".join(lines), file=sys.stdout, flush=True)

            server.run(params, values["model"], ready, log)
            return "ended      what was taken has been answered"

        return exit_code(answer, debug=options.debug, unprinted=0, for_weeks=True)

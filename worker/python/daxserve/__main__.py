"""``python -m daxserve attach org/m``: attaches and prints the tensors, to see that everything works."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import List, Optional

from . import DaxserveError, Model, __version__, attach


def main(arguments: Optional[List[str]] = None) -> int:
    """Exit code 0, 1 (failed) or 2 (usage)."""
    options = _parser().parse_args(arguments)
    try:
        with attach(options.model, options.socket, options.wait, options.source, timeout=options.timeout) as model:
            print_model(model, options.json)
            sys.stdout.flush()
    except DaxserveError as error:
        print(f"daxserve: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # A reader that closes the pipe early (head) is no failure; the interpreter must not flush into it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m daxserve", description="Look at models in daxserve.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("attach", help="attach to a model and print its tensors")
    command.add_argument("model", help="name[:tag]")
    command.add_argument("--socket", metavar="PATH", help="worker socket (default: $DAXSERVE_SOCKET or the usual places)")
    command.add_argument("--wait", type=float, default=0, metavar="S", help="seconds to wait until the model is ready")
    command.add_argument("--source", metavar="SOURCE", help="load the model from here when the service lacks it")
    command.add_argument("--timeout", type=float, default=10, metavar="S", help="seconds to wait for an answer")
    command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def print_model(model: Model, as_json: bool) -> None:
    if as_json:
        tensors = [tensor._asdict() for tensor in model.tensors.values()]
        files = [file._asdict() for file in model.files.values()]
        print(json.dumps({"name": model.name, "digest": model.digest, "files": files, "tensors": tensors}))
        return
    rows = [(t.name, t.dtype, str(list(t.shape)), str(t.length), t.file) for t in model.tensors.values()]
    print_table([("TENSOR", "DTYPE", "SHAPE", "BYTES", "FILE"), *rows])
    print(f"\n{model.name}  {model.format}  {len(model)} tensors  {model.nbytes} bytes  {len(model.files)} files")


def print_table(rows: "list[tuple[str, ...]]") -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


if __name__ == "__main__":
    sys.exit(main())

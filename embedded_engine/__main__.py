"""The command line: python -m embedded_engine {up,preview,destroy,outputs}."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence

from embedded_engine import program
from embedded_engine.display import printable
from etcd_cluster.errors import EtcdClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one operation.

    Args:
        arguments: Of the command line; default those of this process.

    Returns:
        0; 1 after a failure; 130 after an interrupt.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.operation == "outputs":
            values = printable(program.outputs(options.stack, options.directory), options.show_secrets)
            print(json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True))
            return 0
        return _run(options)
    except EtcdClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # Before anything was begun.
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.operation == "destroy" and not options.yes:
        raise EtcdClusterError(f"destroy deletes every resource of stack {options.stack}: add --yes if that is meant")
    # With --json, standard output is for the result alone, whatever the program prints.
    with contextlib.redirect_stdout(sys.stderr if options.json else sys.stdout):
        result = program.run(options.operation, options.stack, options.directory)
    if options.json:
        steps = [{"operation": each, "urn": urn} for each, urn in result.operations]
        document = {"ok": result.ok, "operations": steps, "outputs": printable(result.outputs, options.show_secrets)}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    return 130 if result.interrupted else 0 if result.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m embedded_engine", description="Runs a Pulumi program without the Pulumi CLI."
    )
    operations = {
        "up": "bring the stack to what the program describes",
        "preview": "show what `up` would do, and do nothing",
        "destroy": "delete every resource of the stack",
        "outputs": "print the outputs of the stack as JSON",
    }
    parser.add_argument("operation", choices=operations, help="; ".join(f"{k}: {v}" for k, v in operations.items()))
    parser.add_argument("--stack", default="dev", help="the stack (default: dev)")
    parser.add_argument("--directory", default=".", help="where Pulumi.yaml is (default: here)")
    parser.add_argument("--show-secrets", action="store_true", help="print secret outputs in plain")
    parser.add_argument("--json", action="store_true", help="print nothing but the result, as JSON, on standard output")
    parser.add_argument("--yes", action="store_true", help="for destroy: really delete every resource")
    return parser


if __name__ == "__main__":
    sys.exit(main())

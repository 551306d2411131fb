"""What an editor shows: pyright's language server, asked about one file of Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any


class LanguageServer:
    """Knows the packages of the environment of `python`."""

    def __init__(self, folder: Path, python: Path) -> None:
        self._file, self._python, self._calls = folder / "program.py", python, 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        workspace = {"uri": folder.as_uri(), "name": "program"}
        hover = {"textDocument": {"hover": {"contentFormat": ["plaintext"]}}, "workspace": {"configuration": True}}
        self._call("initialize", {"processId": None, "capabilities": hover, "workspaceFolders": [workspace]})
        self._send({"method": "initialized", "params": {}})

    def __enter__(self) -> LanguageServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def open(self, text: str) -> None:
        self._file.write_text(text)
        document = {"uri": self._file.as_uri(), "languageId": "python", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    def hover(self, line: int, character: int) -> str:
        """What is shown for the word there; both count from 0."""
        position = {"line": line, "character": character}
        found = self._call("textDocument/hover", {"textDocument": {"uri": self._file.as_uri()}, "position": position})
        return str(found["contents"]["value"]) if found else ""

    def _call(self, method: str, params: Any) -> Any:
        self._calls += 1
        self._send({"id": self._calls, "method": method, "params": params})
        while True:
            message = self._receive()
            if "method" not in message and message.get("id") == self._calls:
                return message["result"]
            if "method" in message and "id" in message:
                items = message["params"].get("items", []) if message.get("params") else []
                self._send({"id": message["id"], "result": [{"pythonPath": str(self._python)} for _ in items]})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert length, "the language server has ended"
        found: dict[str, Any] = json.loads(self._process.stdout.read(length))
        return found

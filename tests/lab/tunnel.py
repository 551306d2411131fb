"""Stands in for a cloud's tunnel: `tunnel.py TARGET PORT NAMES` joins its input and output to TARGET's port.

TARGET is a name that only this program knows, as that of an instance: NAMES is a file of JSON, name -> address.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from pathlib import Path


def main(target: str, port: str, names: str) -> None:
    addresses = json.loads(Path(names).read_text())
    if target not in addresses:
        sys.exit(f"there is no target {target}")
    with socket.create_connection((addresses[target], int(port))) as there:

        def send() -> None:
            while data := os.read(0, 65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

        threading.Thread(target=send, daemon=True).start()
        while data := there.recv(65536):
            os.write(1, data)


if __name__ == "__main__":
    main(*sys.argv[1:])

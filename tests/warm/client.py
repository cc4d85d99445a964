"""Passes a command on to the server: `python client.py SOCKET PROGRAM WORD...`, with this folder, environment, streams.

It imports nothing that takes time, such as pathlib.
"""

# ruff: noqa: PTH109
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    variables = [f"{name}={value}" for name, value in os.environ.items()]
    parts = [os.getcwd(), str(len(variables)), *variables, *sys.argv[2:]]
    socket.send_fds(server, [b"\n"], [0, 1, 2])
    server.sendall("\0".join(parts).encode(errors="surrogateescape"))
    server.shutdown(socket.SHUT_WR)
    code = server.recv(4)
sys.exit(int(code) if code else 1)

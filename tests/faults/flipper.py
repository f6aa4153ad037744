"""A process that makes a server refuse and accept in turn, quicker and steadier than one that publishes meanwhile.

Arguments: the path of the server's socket, how often, milliseconds to refuse, milliseconds to accept, the command that
makes it refuse, the one that makes it accept again.
"""

from __future__ import annotations

import socket
import sys
import time

from mainflux_events.resp import command

PATH, TIMES, REFUSING, ACCEPTING, REFUSE, ACCEPT = sys.argv[1:]

with socket.socket(socket.AF_UNIX) as server:
    server.connect(PATH)
    for _ in range(int(TIMES)):
        for words, milliseconds in ((REFUSE, REFUSING), (ACCEPT, ACCEPTING)):
            server.sendall(command(*words.split()))
            reply = server.recv(1000)
            assert reply == b"+OK\r\n", reply
            time.sleep(float(milliseconds) / 1000)

"""A client that asks and then takes no byte of the answers, until it is told to: back-pressure at its hardest.

    with StalledReader("127.0.0.1:50051") as reader:
        reader.ask("What is 2 + 3?", streams=8)
        …  # the server works, and keeps the answers
        reader.read_on()

A real client that is stopped still takes in what its windows of flow control and its machine's buffers hold, which is more
than a whole answer. This one speaks just enough HTTP/2 to open windows of 0 bytes. Standard library only.
"""

import socket
import struct
import threading

DATA, HEADERS, SETTINGS, WINDOW_UPDATE = 0, 1, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
WIDE = 1 << 24


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def length_delimited(field, payload):
    """A field of a protobuf message, of fewer than 128 bytes."""
    return bytes([field << 3 | 2, len(payload)]) + payload


def request_bytes(question):
    """nabla.v1.ReasonRequest{messages: {role: "user" content: question}}, framed as gRPC wants it."""
    message = length_delimited(1, b"user") + length_delimited(2, question.encode())
    body = length_delimited(1, message)
    return struct.pack(">BI", 0, len(body)) + body


def header_block(address):
    fields = {":method": "POST", ":scheme": "http", ":path": "/nabla.v1.Reasoner/Reason", ":authority": address,
              "te": "trailers", "content-type": "application/grpc"}
    return b"".join(b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
                    for name, value in fields.items())


class StalledReader:
    def __init__(self, address):
        self.address = address
        self.socket = socket.create_connection(address.rsplit(":", 1), timeout=None)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self._window(0))
        # Takes in what flow control does not hold back: headers, and the answers once they may come.
        threading.Thread(target=self._discard, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    @staticmethod
    def _window(size):
        return frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, size))

    def _discard(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass  # closed

    def ask(self, question, streams):
        for i in range(streams):
            stream = 2 * i + 1
            self.socket.sendall(frame(HEADERS, END_HEADERS, stream, header_block(self.address))
                                + frame(DATA, END_STREAM, stream, request_bytes(question)))

    def read_on(self):
        self.socket.sendall(self._window(WIDE) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WIDE)))

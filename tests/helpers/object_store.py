"""A server of S3's protocol on loopback, and a proxy before it that can break connections."""

from __future__ import annotations

import contextlib
import socket
import threading

from moto.server import ThreadedMotoServer


class Proxy:
    """Forwards connections to a port.

    Attributes:
        breaks: called with the first bytes of a connection's request; true to close the connection after 4,000 bytes of it.
        broken: number of connections that were closed.
    """

    def __init__(self, port):
        self.target, self.broken = port, 0
        self.breaks = lambda head: False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client), daemon=True).start()

    def _requests(self, client, server):
        breaking, sent = False, 0
        try:
            while data := client.recv(2000):
                if data.startswith((b"PUT ", b"POST ", b"GET ", b"HEAD ", b"DELETE ")):
                    breaking, sent = self.breaks(data), 0
                sent += len(data)
                if breaking and sent > 4000:
                    self.broken += 1
                    break
                server.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    def _answers(self, server, client):
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    @staticmethod
    def _close(*sockets):
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self):
        self.listener.close()


class ObjectStore:
    """A server with the bucket `box`, and a proxy.

    Attributes:
        environment: variables with which a process reaches it through the proxy.
        url: its own address, without the proxy.
    """

    def __init__(self):
        self.server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.url, self.proxy = f"http://{host}:{port}", Proxy(port)
        self.environment = {
            "AWS_ACCESS_KEY_ID": "AKIATESTKEY",
            "AWS_SECRET_ACCESS_KEY": "very-secret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
        }
        self.client().create_bucket(Bucket="box")

    def client(self):
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
        )

    def names(self, prefix=""):
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket="box", Prefix=prefix)
        return sorted(entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", ()))

    def close(self):
        self.proxy.close()
        self.server.stop()

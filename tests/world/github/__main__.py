"""The HTTP server: from sockets to `Request` and from `Response` to sockets."""

import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from github import api, control, faults, record, site, state
from github.message import Request, Response, text

_ADDRESS = ("127.0.0.1", 8000)
_HOSTS = {"github.com": site.respond, "api.github.com": api.respond}
_LONGEST_SILENCE = 120  # seconds


class Handler(BaseHTTPRequestHandler):
    server_version = "GitHub.com"
    sys_version = ""

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        host = headers.get("host", "").partition(":")[0].lower()
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = Request(self.command, host, self.path, headers, body)
        asked = record.begin(request)
        respond = _HOSTS.get(host)
        response = respond(request) if respond else text(421, f"no such host here: {host}\n")
        if response.status == faults.HANG:
            time.sleep(_LONGEST_SILENCE)
            return
        asked.status = response.status
        self._send(response)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(state.now() if timestamp is None else timestamp, usegmt=True)

    def _send(self, response: Response) -> None:
        chunks = [response.body] if isinstance(response.body, bytes) else response.body
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        if isinstance(response.body, bytes) and "Content-Length" not in response.headers and response.status != 204:
            self.send_header("Content-Length", str(len(response.body)))
        self.end_headers()
        for chunk in chunks:
            if self.command != "HEAD":
                self.wfile.write(chunk)


if __name__ == "__main__":
    control.start()
    ThreadingHTTPServer.request_queue_size = 128
    ThreadingHTTPServer(_ADDRESS, Handler).serve_forever()

"""HTTP as uvicorn speaks it, but that what it holds of a request is bounded, and that it says problems as we do."""

from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.web.problems import PROBLEM_JSON, encode_problem

_LONGEST_HEAD = 64 * 2**10  # bytes of a request line and headers, of trailers, or about a chunk


class HttpProtocol(HttpToolsProtocol):
    """uvicorn limits neither heads nor trailers, and the parser puts each header together before it tells of it.

    So bytes are counted that have come since anything was complete: a head, a piece of the body, a request.
    """

    _unfinished = 0

    def data_received(self, data: bytes) -> None:
        self._unfinished += len(data)
        super().data_received(data)
        if self._unfinished > _LONGEST_HEAD and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "HEAD_TOO_LARGE", "the head is too long")
            else:
                self.transport.close()  # an answer to what came before may be on its way

    def on_headers_complete(self) -> None:
        self._unfinished = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unfinished = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unfinished = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, "INVALID_MSG_FORMAT", "not HTTP/1.1")

    def _refuse(self, status: HTTPStatus, cause: str, detail: str) -> None:
        content = encode_problem(status, cause, detail)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: {PROBLEM_JSON}\r\n"
            f"content-length: {len(content)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + content)
        self.transport.close()

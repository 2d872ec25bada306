"""Where one message ends and the next begins, in Redis's protocol and in HTTP/1.1. Pure."""

from __future__ import annotations


def reply_end(data: bytearray, at: int = 0) -> int | None:
    """Where the RESP2 value that begins at ``at`` ends; ``None``: not all of it is there. A command is one, too."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return None
    kind, after = data[at : at + 1], line + 2
    if kind in b"+-:":
        return after
    size = int(data[at + 1 : line])
    if kind == b"$":
        end = after if size < 0 else after + size + 2
        return end if end <= len(data) else None
    if kind != b"*":
        raise ValueError(f"not RESP2: {bytes(data[at : at + 20])!r}")
    for _ in range(max(size, 0)):
        inner = reply_end(data, after)
        if inner is None:
            return None
        after = inner
    return after


def command_name(data: bytes) -> str:
    """The first word of a command, for traces."""
    return data.split(b"\r\n", 3)[2].decode("ascii", "replace")


def http_end(data: bytearray) -> int | None:
    """Where the request or the answer at the beginning ends; its length is in its head."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    lines = bytes(data[:head]).lower().split(b"\r\n")[1:]
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        return _chunks_end(data, head + 4)
    end = head + 4 + int(fields.get(b"content-length", b"0"))
    return end if end <= len(data) else None


def _chunks_end(data: bytearray, at: int) -> int | None:
    while (line := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:line], 16)
        at = line + 2 + size + 2
        if at > len(data):
            return None
        if size == 0:
            return at
    return None

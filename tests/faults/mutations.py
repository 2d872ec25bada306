"""Damage to one stored field: seeded, endless, and pure. What looks like code has ``MARK`` in it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, TypeAlias, cast

MARK = "canary_of_the_corruption_search"
"""Whoever runs or imports a text with this in it has run stored data."""

Path: TypeAlias = tuple[str | int, ...]
"""A place in a JSON document."""

HUGE = "9" * 5000
"""More digits than Python turns into a number."""
DEEP = "[" * 10_000 + "]" * 10_000

CODE = (
    f"__import__('{MARK}')",
    f"{MARK}.Evil",
    f"!!python/object/apply:{MARK}.run []",
    f"cos\nsystem\n(S'{MARK}'\ntR.",
    f"${{{MARK}}} {{{{{MARK}}}}} %({MARK})s {{0.__class__}}",
    f"'; DROP TABLE runs; -- {MARK}",
    "\x1b[2J\x1b]0;title\x07\u202etxt",
)
TAGS = (
    {"__class__": f"{MARK}.Evil", "__module__": MARK},
    {"type": f"{MARK}.Evil", "value": 1},
    {"py/object": f"{MARK}.Evil"},
    {"lc": 1, "type": "constructor", "id": [MARK, "Evil"], "kwargs": {}},
    {"__reduce__": [f"{MARK}.system", ["true"]]},
    {"$ref": f"file:///{MARK}"},
    {"k": "done", "v": 1},
)
FRAGMENTS = (
    "null", "true", "false", "0", "-0", "-1", "1", "2", "1.0", "1e2", "0.1", "-1.5", "1e400", "NaN", "Infinity",
    "-Infinity",
    str(2**31), str(2**53), str(2**53 + 1), str(2**63 - 1), str(2**63), str(-(2**63)), str(10**30), "9" * 4299, HUGE,
    f"-{HUGE}",
    '""', '" "', '"0"', '"1"', '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\uffff"', '"\\x41"', "[]", "{}",
    "[[]]", "[null]",
    '{"":""}', '{"a":1,"a":2}', DEEP, '{"a":' * 10_000 + "1" + "}" * 10_000, '"' + "x" * 100_000 + '"', "01", "+1",
    "1_000", ".5",
    "'a'", "undefined", "", ",", "]", "}", '"', "nul", "tru", "0x10", "1.", "[1,]", '"\n"',
    *(json.dumps(text) for text in CODE),
    *(json.dumps(tag) for tag in TAGS),
)  # fmt: skip
"""What may stand where a JSON value stood: some are JSON."""
KINDS = ("birth", "restarted", "opened", "waiting", "intent", "done", "failed", "rejected", "revived", "closed")
KINDS = (*KINDS, "DONE", "evil", "", f"{MARK}.Evil")
TOKENS = (
    b"0.a", b"1", b"1.", b".a", b"1.a.b", b"-1.a", b"1.a ", b" 1.a", b"1.\xc3\xa9", b"01.a", b"999999999999999.a",
    b"1000000000000000.a", b"1.a\n", b"{1}.a", b"*.*", b"1." + b"a" * 65, "\u0661.a".encode(), b"6.0123456789abcdef",
)  # fmt: skip
COUNTS = (
    b"-1", b"0", b"00", b"007", b"0.1", b"1e3", b"1.0", b" 1", b"1 ", b"+1", b"0x1", b"1_0", b"NaN", b"inf",
    b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775808", HUGE.encode(), "\u0663".encode(), b"1\n", b"one",
)  # fmt: skip
HOLDERS = (
    b'{"host":"h","boot":"b","pidns":"n","pid":1,"start":1}',
    b'{"host":"h","boot":"b","pidns":"n","pid":99999999999999999999,"start":1}',
    b'{"host":"h","boot":"b","pidns":"n","pid":-1,"start":1}',
    b'{"host":"h","boot":"b","pidns":"n","pid":0,"start":null}',
    b'{"host":"\\u001b[2J","boot":"","pidns":"","pid":1,"start":1e9}',
)
RAW = (
    b"", b"\x00", b"\x00" * 64, b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf{}", b"{", b"}", b"[", b"null", b"0",
    b"{}", b"[]", b'""',
    b"\x80\x04\x95.", b"\x1f\x8b\x08\x00", b"*1\r\n$4\r\nPING\r\n", b"x" * 100_000, DEEP.encode(), HUGE.encode(),
    b"NaN", b"-",
    *(text.encode() for text in CODE),
    *(json.dumps(tag).encode() for tag in TAGS),
    *TOKENS,
    *COUNTS,
    *HOLDERS,
)  # fmt: skip
"""Whole values that may stand in any field."""


def of_bytes(value: bytes, seed: str) -> Iterator[bytes | None]:
    """Damaged forms of a field that is bytes; the first is that it is missing."""
    chance = random.Random(seed)
    yield None
    yield from (raw for raw in chance.sample(RAW, len(RAW)) if raw != value)
    while True:
        damaged = _stirred(value, chance)
        if damaged != value:
            yield damaged


def _stirred(value: bytes, chance: random.Random) -> bytes:
    at, to = sorted((chance.randrange(len(value) + 1), chance.randrange(len(value) + 1)))
    match chance.randrange(8):
        case 0 if value:  # one bit
            at = min(at, len(value) - 1)
            return value[:at] + bytes([value[at] ^ 1 << chance.randrange(8)]) + value[at + 1 :]
        case 1:
            return value[:at]
        case 2:
            return value[at:]
        case 3:
            return value[:at] + value[to:]
        case 4:
            return value[:at] + chance.randbytes(chance.randrange(1, 9)) + value[at:]
        case 5:
            return value[:to] + value[at:]  # a part twice
        case 6:
            return value[:at] + bytes(to - at) + value[to:]
        case _ if value:  # another printable character: lengths and syntax mostly hold
            at = min(at, len(value) - 1)
            return value[:at] + bytes([chance.randrange(33, 127)]) + value[at + 1 :]
    return value + b"\x00"


def paths_of(document: Any) -> Iterator[Path]:
    """Every place in a JSON document, the whole of it first."""
    yield ()
    pairs: Any = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    for part, item in pairs:
        for rest in paths_of(item):
            yield (part, *rest)


def of_json(document: Any, path: Path, seed: str) -> Iterator[bytes]:
    """Forms of the document that are damaged at this place alone."""
    chance = random.Random(seed)
    yield from _without(document, path)
    node = document
    for part in path:
        node = node[part]
    own = json.dumps(node, ensure_ascii=False)
    fragments = [*FRAGMENTS, *_beside(own, path)]
    if path and path[-1] == "k":
        fragments += [json.dumps(kind) for kind in KINDS]
    if isinstance(node, dict):
        extras = (',"later":{"a":[1]}}', ',"v":2}', ',"k":"evil"}', f',"__class__":"{MARK}.Evil"}}')
        fragments += [own[:-1] + extra for extra in extras]
    for fragment in chance.sample(fragments, len(fragments)):
        if fragment != own:
            yield _spliced(document, path, fragment.encode("utf-8", "surrogatepass"))
    while True:
        yield _spliced(document, path, _of_kind(node, own, chance))


def _of_kind(node: Any, own: str, chance: random.Random) -> bytes:
    """Another value that the place might well hold."""
    if isinstance(node, bool) or node is None or isinstance(node, dict | list):
        return _stirred(own.encode(), chance)
    if isinstance(node, int | float):
        return str(
            chance.choice(
                (node + chance.randrange(1, 99), chance.randrange(-(2**70), 2**70), 10 ** chance.randrange(40))
            )
        ).encode()
    text = _stirred(cast(str, node).encode(), chance).decode("utf-8", "replace")
    return json.dumps(text, ensure_ascii=chance.random() < 0.5).encode()


def _beside(own: str, path: Path) -> Iterator[str]:
    """The value, and then the same field again with another."""
    if path and isinstance(path[-1], str):
        name = json.dumps(path[-1])
        yield f"{own},{name}:null"
        yield f"{own},{name}:{own}"
        yield f'{own},{name}:"other"'


def _without(document: Any, path: Path) -> Iterator[bytes]:
    if path:
        copy = json.loads(json.dumps(document))
        node = copy
        for part in path[:-1]:
            node = node[part]
        del node[path[-1]]
        yield _line(copy)


_SEAM = "\ue000the damaged place\ue000"


def _spliced(document: Any, path: Path, fragment: bytes) -> bytes:
    """The document with this text where the value at ``path`` was."""
    return _line(_replaced(document, path, _SEAM)).replace(json.dumps(_SEAM, ensure_ascii=False).encode(), fragment)


def _replaced(node: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    if isinstance(node, dict):
        return {name: _replaced(item, path[1:], value) if name == path[0] else item for name, item in node.items()}
    return [_replaced(item, path[1:], value) if at == path[0] else item for at, item in enumerate(node)]


def _line(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def of_type(seed: str) -> Iterator[tuple[str, tuple[bytes, ...]] | None]:
    """What may stand in a key's place: the command that writes it, and its arguments; ``None``: nothing."""
    chance = random.Random(seed)
    yield None
    while True:
        word = chance.choice(("SET", "RPUSH", "HSET", "SADD", "ZADD", "XADD"))
        value, other = chance.choice(RAW), chance.choice(RAW)
        match word:
            case "HSET":
                yield word, (other or b"f", value)
            case "ZADD":
                yield word, (b"%d" % chance.randrange(9), value)
            case "XADD":
                yield word, (b"*", b"f", value)
            case _:
                yield word, (value,)

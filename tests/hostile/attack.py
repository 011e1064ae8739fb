"""Requests that no honest client sends, made from the description of the interface with a seed.

Each `Case` is the bytes of one connection and what may come back.  Every body that could be taken carries a poison, a
field or value for which the operation refuses it in the end, so that nothing may ever be written.
"""

from __future__ import annotations

import copy
import itertools
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

REFUSED = "refused"  # 4xx with a problem
CLOSED = "closed"  # that, or a connection that ends without an answer
READ = "read"  # a GET that may be valid by construction: anything but 5xx
# What the server does after its answer.
CLOSES = "closes"
KEEPS = "keeps"  # it may wait for more
WAITS = "waits"  # it may wait for more and not answer before

BODY_MAX = 1 << 20
ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PREFIXES = ["wl", "le", "wk", "in", "rs", "qt", "ak", "or", "us", "of", "ss", "jt"]
INTS = [
    -1, 0, 1, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**30,
    -(10**400), 1e300, -1e-300, 0.5, -0.0,
]  # fmt: skip
TEXTS = [
    "", " ", "\x00", "a\x00b", "\x1b[2J\x1b]0;x\x07", "\u0085", "\u202e", "\ufeff", "\U0010ffff", "%s%n%x", "../../etc/passwd",
    "'; DROP TABLE orgs; --", "\" OR 1=1", "${jndi:ldap://x}", "$(reboot)", "`reboot`", "\r\nX: y", "wl_", "null", "NaN",
    "-1", "1e9", "x" * 255, "x" * 256, "ü" * 5000, "\\", "/", "//", ".", "..", "~", "file:///etc/passwd", "\n" * 50,
]  # fmt: skip
BYTES = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc3", b"\x80", b"\x00", b"\xf4\x90\x80\x80"]
MALFORMED = [
    b"", b" ", b"{", b"}", b"[1,2", b'{"a":1,}', b"{'a':1}", b"nul", b'{"a":1}{"b":2}', b'{"a":NaN}', b'{"a":1e400}',
    b'{"a":01}', b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'{"a":"x', b"\xef\xbb\xbf{}", b"\x00", b"[],[]", b"true", b'""',
    b"{}}", b'{"a"}', b"{1:2}", b'{"":', b"/**/{}", b'{"a":+1}', b'{"a":.5}', b'{"a":0x10}', b"\x1f\x8b\x08\x00", b"a=b&c=d",
]  # fmt: skip


@dataclass
class Case:
    what: str
    raw: bytes
    expect: str = REFUSED
    field: str | None = None  # with which a 422 must begin
    then: str = CLOSES


Signer = Callable[[str, str, bytes, str], dict[str, str]]  # method, target, body, kind of credentials


def resolve(schemas: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def ident(r: random.Random, prefix: str) -> str:
    return prefix + "_" + r.choice("01234567") + "".join(r.choice(ID_ALPHABET) for _ in range(25))


class Generator:
    """The endless cases of one operation; the same seed gives the same ones, but for credentials."""

    def __init__(self, doc: dict[str, Any], op: dict[str, Any], body: dict[str, Any] | None, sign: Signer, seed: str) -> None:
        self.schemas: dict[str, Any] = doc["components"]["schemas"]
        self.op = op
        self.method: str = op["method"]
        self.body = body
        self.sign = sign
        self.r = random.Random(f"{seed}/{op['operationId']}")
        self.public = op.get("security") == []
        self.reads = self.method == "GET"
        content = op.get("requestBody", {}).get("content", {})
        self.schema = content.get("application/json", {}).get("schema")
        self.uploads = "application/octet-stream" in content
        # An upload that needs nothing but its bytes is poisoned by a query that nobody knows.
        self.tail = "?__poison=1" if self.uploads and "{" not in op["path"] else ""

    # ---- bytes

    def target(self) -> str:
        """The path with ids of nothing."""
        return re.sub(r"\{(\w+)\}", lambda m: ident(self.r, "in" if m[1] == "input" else "le"), self.op["path"]) + self.tail

    def request(
        self,
        target: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        *,
        creds: str = "valid",
        kind: str | None = "application/json",
        method: str | None = None,
    ) -> bytes:
        sent = {"Host": "localhost", "Connection": "close"}
        sent |= self.sign(method or self.method, target, body or b"", creds)
        if body is not None:
            sent["Content-Length"] = str(len(body))
            if kind is not None:
                sent["Content-Type"] = kind
        sent |= headers or {}
        lines = [f"{method or self.method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace") + (body or b"")

    def plain(self) -> bytes:
        """The request as it should be, were it not for its poison."""
        body = json.dumps(self.poisoned(self.body)).encode() if self.body is not None else b"x" if self.uploads else None
        return self.request(self.target(), body)

    def poisoned(self, body: dict[str, Any] | None) -> dict[str, Any]:
        return {**(body or {}), "__poison": 1}

    # ---- values

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        r = self.r
        pick = r.randrange(8 if depth < 4 else 5)
        if pick == 0:
            return r.choice(INTS)
        if pick == 1:
            return r.choice(TEXTS)
        if pick == 2:
            return r.choice([True, False, None])
        if pick == 3:
            return "".join(r.choice(string.printable) for _ in range(r.randrange(40)))
        if pick == 4:
            return ident(r, r.choice(PREFIXES))
        if pick == 5:
            return [self.value(depth + 1) for _ in range(r.randrange(5))]
        return {str(self.value(9))[:60]: self.value(depth + 1) for _ in range(r.randrange(5))}

    def good(self, schema: dict[str, Any], depth: int = 0) -> Any:
        """A value that the schema allows, often at one of its limits."""
        r = self.r
        schema = resolve(self.schemas, schema)
        kind = schema.get("type")
        if "enum" in schema:
            return r.choice(schema["enum"])
        if kind == "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 253402300799999)
            return r.choice([low, high, min(low + 1, high), max(high - 1, low), r.randint(low, high)])
        if kind == "boolean":
            return r.random() < 0.5
        if kind == "string":
            if "pattern" in schema:
                return ident(r, schema["pattern"][1:3])
            low, high = schema.get("minLength", 0), min(schema.get("maxLength", 100), 2000)
            return r.choice("aZ9-ü✓"[: 4 if high < 3 else 6]) * r.choice([low, max(low, high // 3), max(low, 1)])
        if kind == "array":
            count = r.choice([0, 1, 2, min(schema.get("maxItems", 3), 40)]) if depth < 3 else 0
            return [self.good(schema["items"], depth + 1) for _ in range(count)]
        if "properties" in schema:
            required = schema.get("required", [])
            return {
                name: self.good(sub, depth + 1)
                for name, sub in schema["properties"].items()
                if not sub.get("readOnly") and (name in required or r.random() < 0.5)
            }
        return {f"K{i}": "v" * r.randrange(50) for i in range(r.randrange(4))}

    def bad_values(self, schema: dict[str, Any]) -> Iterator[Any]:
        """Values that the schema does not allow."""
        schema = resolve(self.schemas, schema)
        kind = schema.get("type")
        other = [[], {}, [[]], {"a": {}}]
        if kind == "integer":
            yield from ["x", "", True, 1.5, "1e3", 2**63, -(2**63) - 1, 1e300, *other]
            if "minimum" in schema:
                yield from (schema["minimum"] - 1, -(2**63))
            if "maximum" in schema:
                yield from (schema["maximum"] + 1, 2**63 - 1)
        elif kind == "string":
            yield from [1, True, 1.5, *other]
            if "enum" in schema:
                yield from ("nonsense", "", schema["enum"][0].upper(), schema["enum"][0] + " ", "\x00")
            elif "pattern" in schema:
                prefix = schema["pattern"][1:3]
                yield from ("", "x", prefix + "_", "zz_" + "0" * 26, f"{prefix}_" + "I" * 26, f"{prefix}_" + "0" * 27, "x" * 300)
                yield from ("../../etc/passwd", f"{prefix}_" + "0" * 25 + "\n", f"{prefix}_" + "0" * 25 + "'")
            else:
                if "maxLength" in schema and schema["maxLength"] < BODY_MAX // 2:
                    yield "x" * (schema["maxLength"] + 1)
                    yield "ü" * schema["maxLength"]
                if schema.get("minLength"):
                    yield ""
                yield "nul\x00"
        elif kind == "boolean":
            yield from ["true", "", 0, 1, *other]
        elif kind == "array":
            yield from ["x", 1, True, {}]
            items = resolve(self.schemas, schema["items"])
            yield [("x" if items.get("type") == "string" else {})] * (schema.get("maxItems", 10_000) + 1)
            yield from ([1], [[]], [True])
        else:
            yield from ["x", 1, True, [], [{}]]
            if "properties" in schema:
                yield {"__unknown": 1}
            else:
                yield from ({"a": 1}, {"a": []}, {"": "v"}, {"x" * 5000: "v"})

    def places(self, schema: dict[str, Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        schema = resolve(self.schemas, schema)
        for name, sub in schema.get("properties", {}).items():
            inner = resolve(self.schemas, sub)
            if sub.get("readOnly") or inner.get("readOnly") or len(path) > 6:
                continue
            yield (*path, name), sub
            if inner.get("type") == "array" and "properties" in resolve(self.schemas, inner["items"]):
                yield from self.places(inner["items"], (*path, name, 0))
            elif "properties" in inner:
                yield from self.places(inner, (*path, name))

    @staticmethod
    def with_value(body: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
        made: Any = copy.deepcopy(body)
        at = made
        for step, after in itertools.pairwise(path):
            empty: Any = [] if isinstance(after, int) else {}
            if isinstance(step, int):
                if len(at) <= step:
                    at.append(empty)
            elif not isinstance(at.get(step), type(empty)):
                at[step] = empty
            at = at[step]
        at[path[-1]] = value
        return made

    # ---- families of cases

    def bodies(self) -> Iterator[Case]:
        """Wrong values in every place, endlessly in another order."""
        assert self.schema is not None and self.body is not None
        wrong = [
            (path, value)
            for path, sub in self.places(self.schema)
            for value in self.bad_values(sub)
        ]
        self.r.shuffle(wrong)
        for path, value in wrong:
            raw = json.dumps(self.with_value(self.body, path, value)).encode()
            # What no JSON number carries is refused before it has a field.
            no_field = isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63 or len(raw) > BODY_MAX
            no_field = no_field or "\x00" in str(value)
            yield Case(f"{path} = {str(value)[:60]!r}", self.request(self.target(), raw), field=None if no_field else str(path[0]))
        while True:
            yield from self.body_mutations()

    def body_mutations(self) -> Iterator[Case]:
        assert self.schema is not None and self.body is not None
        r = self.r
        target = self.target()
        body = json.dumps(self.body).encode()
        poisoned = json.dumps(self.poisoned(self.good(self.schema))).encode()[: BODY_MAX // 2]
        yield Case("good values and a poison", self.request(target, json.dumps(self.poisoned(self.good(self.schema))).encode()[:BODY_MAX]))
        yield Case("malformed", self.request(target, r.choice(MALFORMED)))
        cut = r.randrange(len(body))
        yield Case(f"JSON cut at {cut}", self.request(target, body[:cut]))
        at = r.randrange(1, max(2, len(poisoned) - 14))
        yield Case("a byte changed", self.request(target, poisoned[:at] + bytes([r.randrange(256)]) + poisoned[at + 1 :]))
        yield Case("bytes that are no UTF-8", self.request(target, poisoned[:at] + r.choice(BYTES) + poisoned[at:]))
        yield Case("any value", self.request(target, json.dumps(self.poisoned({"v": self.value()})).encode()))
        yield Case("any root", self.request(target, json.dumps([self.value()]).encode()))
        depth = r.choice([30, 33, 100, 1000, 50_000])
        yield Case(f"nested {depth} deep", self.request(target, b'{"a":' + b"[" * depth + b"]" * depth + b"}"))
        yield Case(f"open {depth} times", self.request(target, b'{"a":' * depth))
        digits = r.choice([19, 20, 40, 400, 100_000])
        yield Case(f"{digits} digits", self.request(target, b'{"__poison":' + b"9" * digits + b"}"))
        name = r.choice(list(self.body) or ["x"])
        twice = f'{{"{name}":{json.dumps(self.value())},{json.dumps(self.body)[1:-1] or chr(34) + "x" + chr(34) + ":1"}}}'
        yield Case("a field twice", self.request(target, twice.encode()))
        odd = json.dumps(self.poisoned({**self.body, name + r.choice(["\u200b", " ", ".", "[0]", "\\", "\u0000", "ü"]): 1}))
        yield Case("a name that is nearly one", self.request(target, odd.encode()))
        kind = r.choice(["text/plain", "", "json", "application/jsonx", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "*/*", "application/json/x"])
        yield Case(f"content type {kind!r}", self.request(target, body, kind=kind))
        yield Case("no content type", self.request(target, body, kind=None))
        coding = r.choice(["gzip", "br", "deflate", "chunked", "identity, gzip", "x" * 500])
        yield Case(f"content coding {coding[:20]}", self.request(target, body, {"Content-Encoding": coding}))
        big = r.choice([BODY_MAX + 1, BODY_MAX + 65536, 2 * BODY_MAX])
        if r.random() < 0.1:
            yield Case("too large", self.request(target, body + b" " * big), CLOSED)
        yield Case("larger in the head than it is", self.request(target, body, {"Content-Length": str(len(body) + r.randrange(1, 5000))}), CLOSED, then=WAITS)
        yield Case("smaller in the head than it is", self.request(target, poisoned, {"Content-Length": str(r.randrange(len(poisoned) - 12))}))
        for creds in ("none", "random", "other"):
            yield Case(f"credentials: {creds}", self.request(target, json.dumps(self.poisoned(self.body)).encode(), creds=creds))

    def credentials(self) -> Iterator[Case]:
        while True:
            for creds in ("none", "random", "scheme", "cut", "long", "empty", "other", "bytes"):
                body = json.dumps(self.poisoned(self.body)).encode() if self.body is not None else b"x" if self.uploads else None
                expect = READ if self.public and self.reads else REFUSED
                yield Case(f"credentials: {creds}", self.request(self.target(), body, creds=creds), expect if creds != "other" or not self.reads else READ)

    def paths(self) -> Iterator[Case]:
        odd = [
            "x", "wl_", "%00", "%ff%fe", "..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc", "..%5c..", "a" * 3000, "'%20OR%201=1", "%0d%0aX:%20y",
            "%", "%zz", "%c0%ae%c0%ae", "wl_%25", "~", "%7f", "%u0041", ";x=y", "%3f", "%23", "*", "+", "%20", "%09", "%F0%9F%92%A9", "@",
        ]  # fmt: skip
        r = self.r
        body = json.dumps(self.poisoned(self.body)).encode() if self.body is not None else b"x" if self.uploads else None
        while True:
            # Results that are no files here: their lease is nobody's.
            target = re.sub(r"\{\w+\}", lambda _: r.choice([*odd, ident(r, r.choice(PREFIXES))]), self.op["path"])
            if "%2f" in target or "/.." in target or r.random() < 0.7:
                yield Case(f"path {target[:60]}", self.request(target + self.tail, body), READ if "{" not in self.op["path"] and self.reads else REFUSED)
            else:
                mangled = r.choice([target + "/", "/" + target, target.replace("/", "//", 1), target + "/x", target + "%00", "/." + target, target + "/.."])
                yield Case(f"path {mangled[:60]}", self.request(mangled + self.tail, body))

    def queries(self) -> Iterator[Case]:
        r = self.r
        params = [p for p in self.op["parameters"] if p["in"] == "query"]
        ints = ["x", "-1", "1.5", str(2**63), "9" * 40, "0x1", "1e3", "%20", "", "%2b1", "1_0", "--1"]
        texts = ["%ff", "%00", "x" * 3000, "%07", "%c3%28", "%1b%5b2J"]
        while True:
            target = self.target()
            expect = REFUSED
            pick = r.randrange(4)
            if pick == 0 or not params:
                query = r.choice(["__unknown=1", "=1", "a", "%ff=1", "a=%ff", "&&&=", "__x%00=1", "[]=1", "a[b]=1", "x=" + "y" * r.randrange(4000), "__" + str(r.random()) + "=1"])
            else:
                p = r.choice(params)
                kind = p["schema"].get("type")
                value = r.choice(ints if kind == "integer" else ["x", "2", "yes%00", ""] if kind == "boolean" else texts)
                query = f"{p['name']}={value}" if pick == 1 else f"{p['name']}={value}&{p['name']}={value}" if pick == 2 else f"__unknown=1&{p['name']}={value}"
                expect = READ if pick == 1 and self.reads else REFUSED
            body = b"x" if self.uploads else None
            yield Case(f"query {query[:60]}", self.request(f"{target}{'&' if '?' in target else '?'}{query}", body), expect)

    def surprises(self) -> Iterator[Case]:
        """A body where none belongs, a method that is none, an idempotency key that is none."""
        r = self.r
        while True:
            target = self.target()
            if not self.body and not self.uploads:
                body = r.choice([b"x", b"{}", b"{\"a\":1}", b"\x00" * r.randrange(1, 3000)])
                if self.method != "POST":
                    yield Case("a body where none belongs", self.request(target, body))
                yield Case("a chunked body where none belongs", self.request(target, None, {"Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n0\r\n\r\n", CLOSED if self.method == "POST" else REFUSED, then=KEEPS)
            method = r.choice(["PATCH", "BREW", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 40, "CONNECT"])
            yield Case(f"method {method[:10]}", self.request(target, None, method=method))
            if self.body is not None:
                yield Case("idempotency key", self.request(target, json.dumps(self.poisoned(self.body)).encode(), {"Idempotency-Key": r.choice(["", "x" * 129, "x" * 4000, "\x80"])}))

    def heads(self) -> Iterator[Case]:
        """Heads that two readers could understand differently."""
        r = self.r
        while True:
            base = self.plain()
            head, _, rest = base.partition(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            line = lines[0].split(b" ")
            target = line[1]
            yield from (
                Case("no Host", base.replace(b"Host: localhost\r\n", b"", 1), CLOSED),
                Case("two Hosts", head + b"\r\nHost: x\r\n\r\n" + rest),
                Case("odd Host", base.replace(b"Host: localhost", b"Host: " + r.choice([b"a/b", b"a@b", b"", b"a b", b"x" * 300, b"\xff"]), 1)),
                Case("bare LF", base.replace(b"\r\n", b"\n", r.randrange(1, 4)), CLOSED, then=WAITS),
                Case("folded", head + b"\r\nX-A: b\r\n\tc\r\n\r\n" + rest),
                Case("NUL in a value", head + b"\r\nX-A: b\x00c\r\n\r\n" + rest),
                Case("NUL in a name", head + b"\r\nX\x00A: b\r\n\r\n" + rest, CLOSED),
                Case("control in a value", head + b"\r\nX-A: " + bytes([r.choice([1, 2, 7, 8, 11, 12, 27, 127])]) + b"\r\n\r\n" + rest),
                Case("space before the colon", head + b"\r\nX-A : b\r\n\r\n" + rest),
                Case("no colon", head + b"\r\n" + r.choice([b"garbage", b"x" * 100, b"\xff\xfe", b"="]) + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("no name", head + b"\r\n: v\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("two Content-Lengths", head + b"\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("odd Content-Length", lines[0] + b"\r\nHost: x\r\nContent-Length: " + r.choice([b"-1", b"+1", b"0x1", b"1 1", b"1,1", b"", b"9" * 18, b"9" * 30, b"1e3", b"\xb2"]) + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("length and chunked", lines[0] + b"\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + base, REFUSED),
                Case("odd coding", lines[0] + b"\r\nHost: x\r\nTransfer-Encoding: " + r.choice([b"gzip", b"xchunked", b"chunked, chunked", b"identity", b"", b"\x0bchunked"]) + b"\r\n\r\n0\r\n\r\n", CLOSED, then=WAITS),
                Case("odd chunks", lines[0] + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + r.choice([b"xyz\r\n", b"-1\r\n", b"f" * 17 + b"\r\n", b"1\r\nabc\r\n", b"1;" + b"x" * 9000, b"1\n", b"0\r\nX: y\r\n"]) + b"0\r\n\r\n", CLOSED, then=WAITS),
                Case("version", b" ".join([line[0], target, r.choice([b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.11", b"HTTQ/1.1", b"HTTP/", b"x"])]) + head[len(lines[0]) :] + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("request line", r.choice([line[0], line[0] + b" " + target, b"  ".join(line), b"\t".join(line), b" " + lines[0], lines[0] + b" ", lines[0] + b" x"]) + head[len(lines[0]) :] + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("target", b" ".join([line[0], r.choice([b"http://x" + target, b"*", b"x:443", target + b"#x", target + b"\xff", target[1:], b"", b"//x" + target, target + b"\\..", b"?" + target]), line[2]]) + head[len(lines[0]) :] + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("long target", b" ".join([line[0], target + b"?x=" + b"y" * r.choice([5000, 9000, 20_000, 70_000]), line[2]]) + head[len(lines[0]) :] + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("large head", head + b"\r\nX-A: " + b"y" * r.choice([9000, 20_000, 70_000]) + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("many headers", head + b"".join(b"\r\nX-%d: y" % i for i in range(r.choice([500, 2000]))) + b"\r\n\r\n" + rest, CLOSED, then=WAITS),
                Case("two Authorizations", head + b"\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n" + rest),
            )  # fmt: skip

    def broken(self) -> Iterator[Case]:
        """Cut anywhere, garbage before and behind."""
        r = self.r
        while True:
            base = self.plain()
            if self.reads or self.method == "DELETE":
                end = base.index(b"\r\n\r\n")
                cut = r.randrange(end)
            else:
                cut = r.randrange(len(base) - 1)
            yield Case(f"cut at {cut}", base[:cut], CLOSED, then=WAITS)
            garbage = bytes(r.randrange(256) for _ in range(r.choice([1, 10, 100, 1000])))
            yield Case("garbage alone", garbage, CLOSED, then=WAITS)
            yield Case("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + garbage, CLOSED, then=WAITS)
            yield Case("garbage behind", base.replace(b"Connection: close\r\n", b"", 1) + garbage, READ if self.reads else CLOSED, then=KEEPS)
            at = r.randrange(base.index(b"\r\n\r\n"))
            yield Case("a byte of the head changed", base[:at] + bytes([r.randrange(256)]) + base[at + 1 :], READ if self.reads else CLOSED, then=WAITS)
            if not self.reads:
                yield Case("twice in one", base.replace(b"Connection: close\r\n", b"", 1) * 2 + base, CLOSED)

    def cases(self) -> Iterator[Case]:
        families = [(self.credentials(), 1), (self.paths(), 2), (self.queries(), 4), (self.surprises(), 1), (self.heads(), 3), (self.broken(), 3)]
        if self.schema is not None:
            families = [(self.bodies(), 10), (self.credentials(), 1), (self.paths(), 1), (self.surprises(), 1), (self.heads(), 3), (self.broken(), 3)]
        elif self.method == "POST" and not self.uploads:
            families = [f for f in families if f[1] != 4]  # it takes no query, and looks at none
        while True:
            for family, count in families:
                yield from itertools.islice(family, count)

#!/usr/bin/env python3
"""Reads one of our topics as a program does that knows only Debezium's envelope and CloudEvents.

    read_topic.py lines [FILE|-]            messages as JSON lines: {"headers": {}, "payload": ""}
    read_topic.py nats HOST:PORT STREAM     messages of a stream of NATS JetStream

Written from the public specifications alone (CloudEvents 1.0.2 with its bindings for Kafka and NATS
in binary mode, the change event of Debezium's connectors), with Python's own library alone. It skips
events whose type it does not know, as CloudEvents asks for, applies the others to a table by --key,
and prints one JSON object: how many events of which type and changes of which operation there were,
the rows that are left, and whatever does not fit the specifications. Exit code 1 means that
something does not fit.
"""

import argparse
import base64
import datetime
import json
import re
import socket
import sys
import urllib.parse

CHANGES = "alluvium.changes.v1"
REQUIRED = ("id", "source", "specversion", "type")
OPERATIONS = {"c": "create", "u": "update", "d": "delete", "r": "read", "t": "truncate"}
ATTRIBUTE = re.compile(r"^[a-z0-9]+$")
URI_REFERENCE = re.compile(r"^[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
TRACE = re.compile(r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")


class Reader:
    """What a consumer keeps: its table, and what it noticed."""

    def __init__(self, key):
        self.key = key
        self.rows = {}
        self.seen = set()
        self.types = {}
        self.operations = {}
        self.problems = []
        self.message = 0

    def wrong(self, what):
        self.problems.append(f"message {self.message}: {what}")

    def read(self, headers, payload):
        self.message += 1
        headers = {name.lower(): value for name, value in headers.items()}
        if not payload and not any(name.startswith(("ce_", "ce-")) for name in headers):
            return  # no event: a bus marks the beginning of a topic so
        attributes = self.attributes(headers)
        kind = attributes.get("type")
        self.types[kind] = self.types.get(kind, 0) + 1
        if kind != CHANGES:
            return
        for text in self.values(headers.get("content-type", ""), payload):
            try:
                self.change(json.loads(text))
            except ValueError as error:
                self.wrong(f"a value is no JSON: {error}")

    def attributes(self, headers):
        """CloudEvents in binary mode: a header for each attribute, `ce_` on Kafka, `ce-` on NATS."""
        found = {n[3:]: v for n, v in headers.items() if n.startswith(("ce_", "ce-"))}
        for name in REQUIRED:
            if not found.get(name):
                self.wrong(f"the attribute `{name}` is missing")
        for name in found:
            if not ATTRIBUTE.match(name):
                self.wrong(f"`{name}` is no name of an attribute")
        if found.get("specversion") != "1.0":
            self.wrong(f"specversion is {found.get('specversion')}")
        if not URI_REFERENCE.match(found.get("source", "")):
            self.wrong("`source` is no URI reference")
        if "time" in found and not self.is_time(found["time"]):
            self.wrong("`time` is no time of RFC 3339")
        if "traceparent" in headers and not TRACE.match(headers["traceparent"]):
            self.wrong("`traceparent` is no trace context")
        identity = (found.get("source"), found.get("id"))
        if identity in self.seen:
            self.wrong(f"two events of one source and id: {identity}")
        self.seen.add(identity)
        return found

    @staticmethod
    def is_time(text):
        if not TIME.match(text):
            return False
        datetime.datetime.fromisoformat(re.sub(r"\.\d+", "", text).replace("Z", "+00:00"))
        return True

    def values(self, content_type, payload):
        """One JSON value, or one a line."""
        kind = content_type.split(";")[0].strip().lower()
        if kind == "application/json":
            return [payload]
        if kind == "application/x-ndjson":
            return [line for line in payload.split("\n") if line]
        self.wrong(f"content type `{content_type}`")
        return []

    def change(self, event):
        """Debezium: a `schema` may stand beside the `payload`; after a delete may come nothing."""
        if isinstance(event, dict) and set(event) == {"schema", "payload"}:
            event = event["payload"]
        if event is None:
            return
        for member in ("op", "before", "after", "source", "ts_ms"):
            if member not in event:
                self.wrong(f"`{member}` is missing")
        operation, before, after = event.get("op"), event.get("before"), event.get("after")
        source = event.get("source")
        self.operations[operation] = self.operations.get(operation, 0) + 1
        if operation not in OPERATIONS:
            return self.wrong(f"`op` is {operation!r}")
        if not isinstance(source, dict):
            return self.wrong("`source` is no object")
        for where, time in (("", event.get("ts_ms")), ("source.", source.get("ts_ms", 0))):
            if not isinstance(time, int) or isinstance(time, bool):
                self.wrong(f"`{where}ts_ms` is no integer")
        if "snapshot" in source and not isinstance(source["snapshot"], str):
            self.wrong("`source.snapshot` is no text")
        fits = {
            "c": before is None and isinstance(after, dict),
            "r": before is None and isinstance(after, dict),
            "u": isinstance(before, (dict, type(None))) and isinstance(after, dict),
            "d": isinstance(before, dict) and after is None,
            "t": before is None and after is None,
        }
        if not fits[operation]:
            return self.wrong(f"`before` and `after` do not fit `op` {operation!r}")
        self.apply(operation, before, after)

    def apply(self, operation, before, after):
        if operation == "t":
            self.rows.clear()
        elif operation == "d":
            self.rows.pop(self.name(before), None)
        else:
            if before is not None:
                self.rows.pop(self.name(before), None)
            self.rows[self.name(after)] = after

    def name(self, row):
        return json.dumps([row.get(name) for name in self.key])

    def told(self):
        return {
            "messages": self.message,
            "types": self.types,
            "operations": self.operations,
            "rows": [row for _, row in sorted(self.rows.items())],
            "problems": self.problems,
        }


def from_lines(name):
    with sys.stdin if name == "-" else open(name, encoding="utf-8") as lines:
        for line in lines:
            message = json.loads(line)
            yield message["headers"], message["payload"]


class Nats:
    """The little of NATS's protocol that asking a stream for its messages takes."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        hello = {"verbose": False, "pedantic": False, "headers": True, "protocol": 1}
        self.say(f"CONNECT {json.dumps(hello)}")
        self.say("SUB answers 1")

    def say(self, line, body=b""):
        self.socket.sendall(line.encode() + b"\r\n" + body)

    def ask(self, subject, question):
        body = json.dumps(question).encode()
        self.say(f"PUB {subject} answers {len(body)}", body + b"\r\n")
        while True:
            line = self.lines.readline().decode()
            words = line.split()
            if not words:
                raise ConnectionError("the server hung up")
            if words[0] == "PING":
                self.say("PONG")
            elif words[0] == "-ERR":
                raise ConnectionError(line)
            elif words[0] in ("MSG", "HMSG"):
                heads = int(words[-2]) if words[0] == "HMSG" else 0
                answer = self.lines.read(int(words[-1]) + 2)[heads:-2]
                return json.loads(answer)

    def messages(self, stream):
        state = self.ask(f"$JS.API.STREAM.INFO.{stream}", {})["state"]
        for sequence in range(state["first_seq"], state["last_seq"] + 1):
            answer = self.ask(f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": sequence})
            if "message" not in answer:
                continue
            message = answer["message"]
            heads = base64.b64decode(message.get("hdrs", "")).decode()
            pairs = (line.split(":", 1) for line in heads.split("\r\n")[1:] if ":" in line)
            headers = {name: urllib.parse.unquote(value.strip()) for name, value in pairs}
            yield headers, base64.b64decode(message.get("data", "")).decode()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--key", default="id", help="the members that name a row, with commas")
    ways = parser.add_subparsers(dest="way", required=True)
    ways.add_parser("lines").add_argument("file", nargs="?", default="-")
    nats = ways.add_parser("nats")
    nats.add_argument("address")
    nats.add_argument("stream")
    asked = parser.parse_args()
    reader = Reader(asked.key.split(","))
    if asked.way == "lines":
        messages = from_lines(asked.file)
    else:
        messages = Nats(asked.address).messages(asked.stream)
    for headers, payload in messages:
        reader.read(headers, payload)
    print(json.dumps(reader.told()))
    return 1 if reader.problems else 0


if __name__ == "__main__":
    sys.exit(main())

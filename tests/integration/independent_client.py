"""An agent of another make, written from docs/topics.md alone: it shares no code with this repository.

A program of its own: `python independent_client.py --port 1883 --agent-id room-9 --password-file FILE`. It needs
paho-mqtt and numpy. It does not learn: its local rule shrinks every weight a little. It carries nothing from round to
round, so it needs no disk. It leaves out two processes with one id, as the page allows. At the end (SIGTERM) it prints
one JSON object that says what it has seen.
"""

import argparse
import hashlib
import json
import random
import signal
import socket
import ssl
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

Json = dict[str, Any]
Tensors = dict[str, np.ndarray[Any, Any]]

WINDOW_CHUNKS = 4
SAY_NOTHING_AGAINST_THE_UPDATE = ("wrong-run", "stale-round", "future-round", "not-selected")
MODEL_WAIT_S, ASK_AGAIN_S, RESEND_S, POLL_S, LONGEST_WAIT_S, CHUNKS_WAIT_S = 2.0, 10.0, 10.0, 20.0, 120.0, 120.0

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def write_safetensors(tensors: Tensors, header: Json) -> bytes:
    """One file with the header under the metadata key `federation`."""
    head: Json = {"__metadata__": {"federation": json.dumps(header)}}
    data = b""
    for name, array in tensors.items():
        body = array.tobytes()
        head[name] = {
            "dtype": dtype_name(array),
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(body)],
        }
        data += body
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(blob: bytes) -> tuple[Json, Tensors]:
    """Header and tensors of a file."""
    (head_bytes,) = struct.unpack("<Q", blob[:8])
    head = json.loads(blob[8 : 8 + head_bytes])
    data = blob[8 + head_bytes :]
    header = json.loads(head.pop("__metadata__")["federation"])
    tensors = {}
    for name, entry in head.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return header, tensors


def dtype_name(array: np.ndarray[Any, Any]) -> str:
    """What safetensors calls an array's dtype."""
    return next(name for name, dtype in DTYPES.items() if array.dtype == np.dtype(dtype))


def digest(tensors: Tensors) -> str:
    """The name of these weights."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        shape = ",".join(str(size) for size in tensors[name].shape)
        sha.update(f"{name}|{dtype_name(tensors[name])}|{shape}\n".encode())
        sha.update(tensors[name].tobytes())
    return sha.hexdigest()


class ChunkedBlob:
    """A model on its way in chunks."""

    def __init__(self, size_bytes: int, chunk_bytes: int, sha256: str) -> None:
        self.sha256 = sha256
        self._size_bytes, self._chunk_bytes = size_bytes, chunk_bytes
        self._pieces: dict[int, bytes] = {}
        self._asked: set[int] = set()

    def next_question(self) -> tuple[int, int]:
        """The first chunks that are missing: index and number."""
        missing = [i for i in range(-(-self._size_bytes // self._chunk_bytes)) if i not in self._pieces]
        count = 0
        while count < min(WINDOW_CHUNKS, len(missing)) and missing[count] == missing[0] + count:
            count += 1
        self._asked = set(missing[:count])
        return missing[0], count

    def add(self, index: int, message: bytes) -> bool:
        """Take a chunk; True when all that was asked for has come."""
        header, tensors = read_safetensors(message)
        if header["blob_sha256"] == self.sha256 and header["index"] == index:
            self._pieces[index] = tensors["chunk"].tobytes()
            self._asked.discard(index)
        return not self._asked

    def blob(self) -> bytes | None:
        """The whole, once it is there and right; starts again when it is wrong."""
        whole = b"".join(self._pieces[index] for index in sorted(self._pieces))
        if len(whole) < self._size_bytes:
            return None
        if hashlib.sha256(whole).hexdigest() != self.sha256:
            self._pieces.clear()
            return None
        return whole


class Agent:
    """One agent: what it knows, and what it does about each message and each moment."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.agent_id: str = options.agent_id
        self.root = f"{options.prefix}/v1/"
        self.own = f"{self.root}agents/{self.agent_id}/"
        self.minor: int = options.minor
        self.instance = f"{random.getrandbits(48):012x}"
        self.counts: Counter[str] = Counter()
        self.refusals: list[Json] = []
        self.stop = False
        self.failures = 0
        self._options = options
        self._client = self._new_client()
        self._ready = False
        self._max_packet_bytes = 2**28
        self._their_minor: int = options.minor
        self._session = ""
        self._run_id = ""
        self._closed = 0  # the last closed round that we were told of
        self._announcement: Json | None = None
        self._early_model: bytes | None = None
        self._chunks: ChunkedBlob | None = None
        self._update: tuple[int, str, bytes] | None = None  # round, digest of its base, bytes
        self._batches = 0
        self._reports: dict[int, Json] = {}
        self._reported: set[tuple[str, int]] = set()
        self._model_at_s = self._resend_at_s = self._poll_at_s = float("inf")
        self._resend_wait_s = self._poll_wait_s = 0.0

    # -- connection

    def run(self) -> None:
        """Serve until told to stop."""
        while not self.stop:
            self._serve_one_connection()
            if not self.stop:
                time.sleep(min(60.0, 2.0**self.failures) * random.uniform(0.5, 1.5))  # noqa: S311
                self.failures += 1

    def _serve_one_connection(self) -> None:
        # A client object for each connection: an old one would send again what was not acknowledged.
        client = self._client = self._new_client()
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 86400
        try:
            client.connect("127.0.0.1", self._options.port, keepalive=60, clean_start=False, properties=properties)
        except OSError:
            return
        while not self.stop and client.loop(0.05) == mqtt.MQTT_ERR_SUCCESS:
            if self._ready:
                self._look_at_the_time()
        if self._ready and self.stop:
            self._say_goodbye()
        self._ready = False

    def _hang_up(self) -> None:
        """Lose the connection without a goodbye, and with it what has just come."""
        self.counts["hung_up"] += 1
        self._early_model = None
        connection: Any = self._client.socket()
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def _say_goodbye(self) -> None:
        info = self._publish("status", self._status("offline"), retain=True)
        give_up_s = time.monotonic() + 5
        while not info.is_published() and time.monotonic() < give_up_s:
            self._client.loop(0.05)
        self._client.disconnect()
        self._client.loop(0.05)

    def _new_client(self) -> mqtt.Client:
        client = mqtt.Client(CallbackAPIVersion.VERSION2, self.agent_id, protocol=mqtt.MQTTv5)
        client.username_pw_set(self.agent_id, Path(self._options.password_file).read_text().strip())
        if self._options.ca:
            client.tls_set_context(ssl.create_default_context(cafile=self._options.ca))
        client.max_inflight_messages_set(1)  # never more than any broker's Receive Maximum
        client.will_set(self.own + "status", json.dumps(self._status("offline")), qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            return
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", 2**28)
        filters = [self.own + "inbox/#", self.root + "models/+/+", self.root + "coordinator/status"]
        client.subscribe([(topic_filter, 1) for topic_filter in filters])

    def _on_subscribe(self, *_: Any) -> None:
        self._ready = True
        self.failures = 0
        self._publish("status", self._status("online"), retain=True)
        for number in self._reports:
            self._publish_report(number)
        self._word_came()

    # -- messages in

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        topic, payload = message.topic, bytes(message.payload)
        try:
            if topic == self.root + "coordinator/status":
                self._on_coordinator_status(json.loads(payload))
            elif topic.startswith(self.root + "models/"):
                self._on_broadcast(topic.split("/")[-2:], payload)
            elif topic.startswith(self.own + "inbox/"):
                self._on_inbox(topic.removeprefix(self.own + "inbox/").split("/"), payload)
        except (ValueError, KeyError, TypeError, struct.error) as error:
            self.counts["unreadable"] += 1
            print(f"cannot read a message on {topic}: {error!r}", flush=True)  # noqa: T201

    def _on_coordinator_status(self, status: Json) -> None:
        if status.get("claim") or status.get("answers"):
            return
        if status["state"] == "online" and status["session"] != self._session:
            self._session = status["session"]
            self._closed = 0
            self._publish("status", self._status("online"), retain=True)

    def _on_broadcast(self, _where: list[str], payload: bytes) -> None:
        self.counts["broadcasts"] += 1
        if self._options.ignore_first_model and self.counts["broadcasts"] == 1:
            return
        self._on_model(payload)

    def _on_inbox(self, levels: list[str], payload: bytes) -> None:
        self._word_came()
        match levels:
            case ["announcement"]:
                self._on_announcement(json.loads(payload))
            case ["standing"]:
                self._on_standing(json.loads(payload))
            case ["receipt"]:
                self._on_receipt(json.loads(payload))
            case ["wanted"]:
                self._on_wanted(json.loads(payload))
            case ["models", _run_id, _number]:
                self.counts["models_sent_to_us_alone"] += 1
                self._on_model(payload)
            case ["chunks", run_id, number, index]:
                self._on_chunk(run_id, int(number), int(index), payload)

    def _on_announcement(self, announcement: Json) -> None:
        self.counts["announcements"] += 1
        if announcement["round_number"] == self._options.hang_up_in_round and not self.counts["hung_up"]:
            self._hang_up()
            return
        self._their_minor = int(announcement["v"].split(".")[1])
        number = announcement["round_number"]
        if not self._settle(announcement, number - 1):
            return
        for older in [n for n in self._reports if n < number - 2]:
            self._publish_report(older)
        base = announcement["model"]["sha256"]
        if self._update is not None and self._update[:2] == (number, base):
            self._announcement = announcement
            self._send_update()
            return
        if self._same_work(announcement):
            self._announcement = announcement
            return
        self._update = None
        self._begin(announcement)

    def _same_work(self, announcement: Json) -> bool:
        """Whether we are fetching the model of just this work (training itself takes us no time)."""
        if self._announcement is None or (self._chunks is None and self._model_at_s == float("inf")):
            return False
        what = ("run_id", "round_number", "model", "plan", "last_accepted_round")
        return all(self._announcement[key] == announcement[key] for key in what)

    def _begin(self, announcement: Json) -> None:
        self._announcement = announcement
        self._announced_at_s = time.monotonic()
        self._chunks = None
        self._resend_at_s = float("inf")
        offer = announcement["model"]
        if offer.get("blob_sha256"):
            self._chunks = ChunkedBlob(offer["size_bytes"], announcement["chunk_bytes"], offer["blob_sha256"])
            self._ask_for_model()
            return
        self._model_at_s = time.monotonic() + MODEL_WAIT_S
        if self._early_model is not None:
            self._on_model(self._early_model)

    def _on_model(self, blob: bytes) -> None:
        if self._announcement is None or self._update is not None or self._model_at_s == float("inf"):
            self._early_model = blob
            return
        offer = self._announcement["model"]
        header, weights = read_safetensors(blob)
        if len(blob) > offer["size_bytes"] or header["kind"] != "model" or digest(weights) != offer["sha256"]:
            self._early_model = blob  # of a round whose announcement is still to come, perhaps
            return
        self._model_at_s = float("inf")
        self._early_model = self._chunks = None
        self._train(self._announcement, weights)

    def _on_chunk(self, run_id: str, number: int, index: int, message: bytes) -> None:
        announcement = self._announcement
        if self._chunks is None or announcement is None:
            return
        if (run_id, number) != (announcement["run_id"], announcement["round_number"]):
            return
        self.counts["chunks"] += 1
        all_came = self._chunks.add(index, message)
        blob = self._chunks.blob()
        if blob is not None:
            self._on_model(blob)
        elif all_came:
            self._ask_for_model()

    def _on_standing(self, standing: Json) -> None:
        if not self._settle(standing, standing["closed_round"]):
            return
        work = self._announcement
        if standing["phase"] != "waiting":
            self.counts[standing["phase"]] += 1
            self._update = None
            self._drop_work()
        elif work and (work["run_id"] != standing["run_id"] or work["round_number"] <= standing["closed_round"]):
            self._drop_work()

    def _on_receipt(self, receipt: Json) -> None:
        work = self._announcement
        if work is None or self._update is None or self._resend_at_s == float("inf"):
            return
        if (receipt["run_id"], receipt["round_number"]) != (work["run_id"], work["round_number"]):
            return
        self._resend_at_s = float("inf")
        self.counts[receipt["outcome"]] += 1
        if receipt["outcome"] == "refused":
            self.refusals.append(receipt)
            if receipt.get("reason") not in SAY_NOTHING_AGAINST_THE_UPDATE:
                self._update = None
        self._report(receipt["round_number"])

    def _on_wanted(self, wanted: Json) -> None:
        work = self._announcement
        if work is None or self._update is None:
            return
        if (wanted["run_id"], wanted["round_number"]) != (work["run_id"], work["round_number"]):
            return
        self._resend_at_s = time.monotonic() + CHUNKS_WAIT_S
        number, _, blob = self._update
        size, sha256 = work["chunk_bytes"], hashlib.sha256(blob).hexdigest()
        for index in range(wanted["first"], wanted["first"] + wanted["count"]):
            piece = np.frombuffer(blob[index * size : (index + 1) * size], np.uint8)
            if piece.size:
                header = {"v": self._written_version(), "blob_sha256": sha256, "index": index}
                message = write_safetensors({"chunk": piece}, header)
                self._publish(f"chunks/{work['run_id']}/{number}/{index}", message, expires_s=3600)

    # -- bookkeeping and time

    def _settle(self, message: Json, closed: int) -> bool:
        """Bring what we have in line with what the coordinator says; False for news that newer ones have overtaken."""
        if message["run_id"] == self._run_id and closed < self._closed:
            return False
        self._closed = closed
        if message["run_id"] != self._run_id:
            self._run_id = message["run_id"]
            self._update = None
            self._reports.clear()
        if self._update is not None and self._update[0] <= closed:
            counted = self._update[0] == message.get("last_accepted_round", 0)
            self.counts["rounds_counted" if counted else "rounds_lost"] += 1
            self._update = None
        for number in message.get("recorded_reports", []):
            if self._reports.pop(number, None):
                self.counts["reports_recorded"] += 1
        return True

    def _drop_work(self) -> None:
        self._announcement = self._chunks = None
        self._model_at_s = self._resend_at_s = float("inf")

    def _word_came(self) -> None:
        self._poll_wait_s = POLL_S
        self._poll_at_s = time.monotonic() + POLL_S

    def _look_at_the_time(self) -> None:
        now_s = time.monotonic()
        if now_s >= self._model_at_s:
            self._ask_for_model()
        if now_s >= self._resend_at_s:
            self._resend_wait_s = min(2 * self._resend_wait_s, LONGEST_WAIT_S)
            self._send_update()
        if now_s >= self._poll_at_s:
            self._poll_wait_s = min(2 * self._poll_wait_s, LONGEST_WAIT_S)
            self._poll_at_s = now_s + self._poll_wait_s
            self._request({"want": "state"})

    # -- the local rule

    def _train(self, announcement: Json, weights: Tensors) -> None:
        self._trained_from_s = time.monotonic()
        if announcement["plan"].get("strategy", "fedavg") != "fedavg" or announcement["plan"].get("options"):
            print("this agent knows plain federated averaging alone", flush=True)  # noqa: T201
            return
        self._batches = announcement["plan"]["local_batches"]
        shrunk = {
            name: (array * 0.999).astype(array.dtype) if array.dtype.kind == "f" else array
            for name, array in weights.items()
        }
        number, base = announcement["round_number"], announcement["model"]["sha256"]
        header = {
            "v": self._written_version(),
            "kind": "update",
            "run_id": announcement["run_id"],
            "round_number": number,
            "sender": self.agent_id,
            "base_sha256": base,
            "num_examples": self._options.examples,
            "num_batches": self._batches,
            "loss": 0.0,
        }
        self._update = number, base, write_safetensors(shrunk, header)
        self._trained_until_s = time.monotonic()
        self._resend_wait_s = RESEND_S
        self._send_update()

    # -- messages out

    def _status(self, state: str) -> Json:
        return {"v": f"1.{self.minor}", "state": state, "instance": self.instance}

    def _written_version(self) -> str:
        return f"1.{min(self.minor, self._their_minor)}"

    def _request(self, request: Json) -> None:
        self.counts[f"asked_for_{request['want']}"] += 1
        self._publish("requests", {"v": f"1.{self.minor}", **request}, expires_s=60)

    def _ask_for_model(self) -> None:
        work = self._announcement
        if work is None:
            return
        self._model_at_s = time.monotonic() + ASK_AGAIN_S
        wanted: Json = {"round": {"run_id": work["run_id"], "round_number": work["round_number"]}}
        if self._chunks is None:
            self._request({"want": "model", **wanted})
        else:
            first, count = self._chunks.next_question()
            self._request({"want": "chunks", **wanted, "first": first, "count": count})

    def _send_update(self) -> None:
        if self._update is None or self._announcement is None:
            return
        number, _, blob = self._update
        run_id = self._announcement["run_id"]
        self._resend_at_s = time.monotonic() + self._resend_wait_s
        if len(blob) > self._announcement["max_update_bytes"]:
            self.counts["too_large_to_send"] += 1
        elif len(blob) > self._announcement["chunk_bytes"]:
            offer = {
                "v": self._written_version(),
                "size_bytes": len(blob),
                "sha256": hashlib.sha256(blob).hexdigest(),
            }
            self._publish(f"offers/{run_id}/{number}", offer, expires_s=3600)
        else:
            self._publish(f"updates/{run_id}/{number}", blob, expires_s=3600)

    def _report(self, number: int) -> None:
        if (self._run_id, number) in self._reported:
            return
        self._reported.add((self._run_id, number))
        measured = dict.fromkeys(("payload_bytes_up", "payload_bytes_down", "packet_bytes_up", "packet_bytes_down"), 0)
        self._reports[number] = {
            "download_s": round(self._trained_from_s - self._announced_at_s, 5),
            "train_s": round(self._trained_until_s - self._trained_from_s, 5),
            "upload_s": round(time.monotonic() - self._trained_until_s, 5),
            "idle_s": 0.0,
            "batches": self._batches,
            "examples": self._options.examples,
            "loss": 0.0,
            **measured,
            "cpu_s": round(time.process_time(), 5),
            "peak_rss_bytes": 0,
        }
        while len(self._reports) > 16:
            del self._reports[min(self._reports)]
        self._publish_report(number)

    def _publish_report(self, number: int) -> None:
        self._publish(f"reports/{self._run_id}/{number}", {"v": self._written_version(), **self._reports[number]})

    def _publish(
        self, topic: str, payload: Json | bytes, *, retain: bool = False, expires_s: int | None = None
    ) -> mqtt.MQTTMessageInfo:
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        properties = Properties(PacketTypes.PUBLISH)
        if expires_s is not None:
            properties.MessageExpiryInterval = expires_s
        if len(self.own) + len(topic) + len(body) + 20 > self._max_packet_bytes:
            raise ValueError(f"{len(body)} bytes on {topic} are more than the broker takes")
        return self._client.publish(self.own + topic, body, qos=1, retain=retain, properties=properties)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--prefix", default="fl")
    parser.add_argument("--agent-id", required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--ca", help="authority of the broker's certificate; plain TCP without it")
    parser.add_argument("--minor", type=int, default=1, help="the highest schema minor to speak")
    parser.add_argument("--examples", type=int, default=100, help="our weight in the mean")
    parser.add_argument("--ignore-first-model", action="store_true", help="as if the first broadcast were lost")
    parser.add_argument("--hang-up-in-round", type=int, help="lose the connection when this round is announced")
    return parser.parse_args()


def main() -> None:
    """Run until SIGTERM, then say what happened."""
    agent = Agent(parse_options())

    def stop(*_: object) -> None:
        agent.stop = True

    signal.signal(signal.SIGTERM, stop)
    agent.run()
    print(json.dumps({**agent.counts, "refusals": agent.refusals}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

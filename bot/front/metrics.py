"""What the front counts, in Prometheus' format, on a registry of its own."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

REGISTRY = CollectorRegistry(auto_describe=True)
CONTENT_TYPE = CONTENT_TYPE_LATEST

#: `result`: `stored`, `repeated`, `unauthorized`, `invalid`, `too_large`, `unavailable`.
UPDATES = Counter("zaki_updates", "Updates from Telegram, by what became of them.", ["result"], registry=REGISTRY)
INBOX_PENDING = Gauge("zaki_inbox_pending", "Updates that wait for their instance.", registry=REGISTRY)
DELIVERED = Counter("zaki_delivered", "Updates that an instance took durably.", registry=REGISTRY)
DELIVERY_SECONDS = Histogram(
    "zaki_delivery_seconds",
    "Seconds from an update's arrival to the instance's durable answer.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
FIRST_REPLY_SECONDS = Histogram(
    "zaki_first_reply_seconds",
    "Seconds from an update's arrival to the instance's first message after it.",
    buckets=(0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300),
    registry=REGISTRY,
)

OUTBOX_PENDING = Gauge("zaki_outbox_pending", "Messages that wait for Telegram.", registry=REGISTRY)
#: `result`: `sent`, `failed`, `uncertain`, `limited`, `unavailable`.
OUTBOX_MESSAGES = Counter(
    "zaki_outbox_messages", "Messages to Telegram, by what became of them.", ["result"], registry=REGISTRY
)
#: `result`: `ok`, `refused`, `unauthorized`, `error`.
BOTAPI_REQUESTS = Counter(
    "zaki_botapi_requests",
    "Bot API calls of instances; methods outside the list are counted as `other`.",
    ["method", "result"],
    registry=REGISTRY,
)

#: `status`: the HTTP status that the instance got, or `cancelled` where it went away.
MODEL_REQUESTS = Counter("zaki_model_requests", "Model calls of instances.", ["status"], registry=REGISTRY)
#: `kind`: `prompt` or `completion`.
MODEL_TOKENS = Counter("zaki_model_tokens", "Tokens that instances used.", ["kind"], registry=REGISTRY)
MODEL_FIRST_BYTE_SECONDS = Histogram(
    "zaki_model_first_byte_seconds",
    "Seconds from a model call to the first byte of its answer.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60),
    registry=REGISTRY,
)
MODEL_BREAKER_OPEN = Gauge(
    "zaki_model_breaker_open", "1 while the model's circuit breaker refuses calls.", registry=REGISTRY
)

#: `state`: the container's state as last seen.
INSTANCES = Gauge("zaki_instances", "Instances, by the state of their container.", ["state"], registry=REGISTRY)


def render() -> bytes:
    """The registry in Prometheus' text format, to be served with `CONTENT_TYPE`."""
    return generate_latest(REGISTRY)

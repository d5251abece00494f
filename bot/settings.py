"""Settings of the services: environment or `.env`, prefix `ZAKI_`, one validated class."""

from __future__ import annotations

import os
from enum import StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.spec import is_digest

TELEGRAM_API = "https://api.telegram.org"
#: Where the front listens on the bridge, unless the settings say otherwise.
INSTANCES_PORT = 8081
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104


class SettingsError(Exception):
    """The settings cannot be used; the message is one sentence that names the setting and what to change."""


class Admission(StrEnum):
    """Who may get an instance."""

    OPEN = "open"
    INVITE = "invite"
    CLOSED = "closed"


def default_state() -> Path:
    """The folder for everything that a service keeps, where `ZAKI_STATE` is unset."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "zaki"


class Settings(BaseSettings):
    """Everything that an operator can set. Paths are absolute after validation; times are seconds."""

    model_config = SettingsConfigDict(env_prefix="ZAKI_", env_file=".env", extra="forbid", frozen=True)

    #: The real bot's token from @BotFather. Unset only for commands that never speak to Telegram.
    telegram_token: SecretStr | None = None
    telegram_api: str = TELEGRAM_API
    #: Set: Telegram calls `PUBLIC_URL/telegram/webhook`. Unset: long polling.
    public_url: str | None = None

    #: Base URL of an OpenAI-compatible API, ending in `/v1`. Unset: the built-in echo model.
    model_url: str | None = None
    model_key: SecretStr | None = None
    model: str | None = None
    #: Tokens that one instance may use in a day (UTC).
    daily_tokens: Annotated[int, Field(gt=0)] = 1_000_000
    #: Seconds without anything to do after which an instance falls asleep; unset: what its plan says.
    idle_seconds: Annotated[float, Field(gt=0)] | None = None

    #: Unset: SQLite under `state`.
    database_url: str | None = None
    state: Path = Field(default_factory=default_state)
    #: Container image of new instances; unset: the one that the host stack declared.
    image: str | None = None

    #: Unset: `invite` with Telegram's own API, `open` in the simulator.
    admission: Admission | None = None
    max_instances: Annotated[int, Field(ge=0)] = 100
    #: Most instances that are kept ready for people who are new; 0: none.
    pool: Annotated[int, Field(ge=0, le=50)] = 3
    operators: Annotated[tuple[int, ...], NoDecode] = ()

    #: Public side: `host:port`.
    listen: str = "127.0.0.1:8080"
    #: What instances may reach: `host:port`; unset: port 8081 of the bridge's gateway address.
    instances_listen: str | None = None

    @field_validator("operators", mode="before")
    @classmethod
    def _split_operators(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("state", mode="after")
    @classmethod
    def _absolute_state(cls, value: Path) -> Path:
        return value.expanduser().resolve()

    @field_validator("telegram_api", "public_url", "model_url", mode="after")
    @classmethod
    def _plain_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("give an http(s) URL without a query")
        return value.rstrip("/")

    @field_validator("listen", "instances_listen", mode="after")
    @classmethod
    def _host_and_port(cls, value: str | None) -> str | None:
        if value is not None:
            split_listen(value)
        return value

    @field_validator("image", mode="after")
    @classmethod
    def _unchangeable_image(cls, value: str | None) -> str | None:
        if value is not None and not is_digest(value):
            raise ValueError("give an image by its digest, sha256:… or name@sha256:…, so that it cannot change")
        return value

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        if self.public_url is not None and not self.public_url.startswith("https://") and not self.simulated:
            raise ValueError("ZAKI_PUBLIC_URL must start with https://, because Telegram calls nothing else")
        if self.model_url is None and (self.model is not None or self.model_key is not None):
            raise ValueError(
                "ZAKI_MODEL and ZAKI_MODEL_KEY need ZAKI_MODEL_URL; set it, or unset them for the echo model"
            )
        if self.model_url is not None and self.model is None:
            raise ValueError("ZAKI_MODEL_URL needs ZAKI_MODEL; set it to a model that the provider offers")
        if split_listen(self.listen)[0] in EVERY_ADDRESS and not self.simulated:
            raise ValueError(
                "ZAKI_LISTEN must be a loopback address with a TLS proxy in front; set it to 127.0.0.1:PORT"
            )
        if self.instances_listen is not None and split_listen(self.instances_listen)[0] in EVERY_ADDRESS:
            raise ValueError(
                "ZAKI_INSTANCES_LISTEN must be the bridge's gateway address, not every address; unset it to use that"
            )
        if self.effective_admission is Admission.OPEN and not self.simulated and not self.operators:
            raise ValueError("ZAKI_ADMISSION=open with a real bot needs ZAKI_OPERATORS; set it to your Telegram id")
        return self

    @property
    def simulated(self) -> bool:
        """True where the Bot API is served from this machine's loopback, as the simulator is."""
        return urlsplit(self.telegram_api).hostname in ("127.0.0.1", "::1", "localhost")

    @property
    def effective_admission(self) -> Admission:
        """The admission in force, with the default that depends on the Bot API."""
        return self.admission or (Admission.OPEN if self.simulated else Admission.INVITE)

    @property
    def effective_database_url(self) -> str:
        """SQLAlchemy URL with an asynchronous driver."""
        if self.database_url is None:
            return f"sqlite+aiosqlite:///{self.state / 'db' / 'zaki.sqlite3'}"
        scheme, _, rest = self.database_url.partition("://")
        drivers = {"postgres": "postgresql+asyncpg", "postgresql": "postgresql+asyncpg", "sqlite": "sqlite+aiosqlite"}
        return f"{drivers.get(scheme, scheme)}://{rest}"

    def effective_instances_listen(self, gateway: IPv4Address) -> str:
        """`host:port` of the side that instances reach; `gateway` is the host's address on their bridge."""
        return self.instances_listen or f"{gateway}:{INSTANCES_PORT}"

    def require_token(self) -> str:
        """The bot's token, or a :class:`SettingsError` that says how to get one."""
        if self.telegram_token is None or not self.telegram_token.get_secret_value():
            raise SettingsError(
                "ZAKI_TELEGRAM_TOKEN is unset; set it to your bot's token from @BotFather, or run `zaki demo`."
            )
        return self.telegram_token.get_secret_value()


def split_listen(value: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as a pair; raises ValueError with what to change."""
    host, _, port = value.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("give host:port, for example 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def load_settings(**overrides: object) -> Settings:
    """The settings from the environment and `.env`; raises :class:`SettingsError` with one sentence."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        where = "ZAKI_" + str(first["loc"][0]).upper().removeprefix("ZAKI_") if first["loc"] else ""
        sentence = f"{where}: {message}" if where else message
        raise SettingsError(sentence.rstrip(".") + ".") from None

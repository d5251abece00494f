"""Errors as an OpenAI client expects them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse


class ModelError(Exception):
    """The call fails; the message is a sentence for whoever reads the instance's log."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error in OpenAI's shape."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The error as an answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


#: For errors that a second try cannot mend; OpenAI's clients honour it.
NO_RETRY = {"x-should-retry": "false"}


def bad_request(message: str, param: str | None = None) -> ModelError:
    """The request is none that can be served."""
    return ModelError(400, message, param=param)


def too_large(limit: int) -> ModelError:
    """The body is over the limit, which is in bytes."""
    return ModelError(413, f"The request is larger than {limit // 1_000_000} MB; send less.", code="request_too_large")


def unknown_key() -> ModelError:
    """The virtual key is wrong or revoked, or belongs to another address; which of them is not said."""
    return ModelError(401, "This model key is not valid here.", code="invalid_api_key")


def not_served(path: str) -> ModelError:
    """Nothing but chat is served."""
    message = f"/llm/v1/{path} is not served: this API serves chat completions and the list of models, nothing else."
    return ModelError(404, message, code="not_served", headers=NO_RETRY)


def too_many_calls(limit: int) -> ModelError:
    """The instance has too many calls under way."""
    message = f"Not more than {limit} model calls at a time; wait until one of them ends."
    return ModelError(429, message, kind="requests", code="rate_limit_exceeded", headers={"Retry-After": "2"})


def too_much_at_once(limit: int) -> ModelError:
    """The instance has too many bytes of requests under way."""
    message = f"Not more than {limit // 1_000_000} MB of requests at a time; wait until one of them is answered."
    return ModelError(429, message, kind="requests", code="rate_limit_exceeded", headers={"Retry-After": "2"})


def tokens_spent(cap: int) -> ModelError:
    """The day's tokens are used up."""
    message = f"Today's {cap:,} tokens are used up; there are new ones from 00:00 UTC."
    return ModelError(429, message, kind="insufficient_quota", code="insufficient_quota", headers=NO_RETRY)


def unavailable(message: str, retry_after: float) -> ModelError:
    """A second try after `retry_after` seconds may well succeed."""
    headers = {"Retry-After": str(max(1, round(retry_after)))}
    return ModelError(503, message, kind="server_error", code="model_unavailable", headers=headers)


def provider_failed(message: str) -> ModelError:
    """The provider answered with something that nobody can use."""
    return ModelError(502, message, kind="server_error", code="provider_failed")


def operator_refused(no_credit: bool) -> ModelError:
    """The provider refuses the operator; nothing that the instance does can mend it."""
    what = "has no credit left with its provider" if no_credit else "is refused by its provider"
    message = f"The model key of Zaki's operator {what}; the operator has been told in the log."
    return ModelError(502, message, kind="server_error", code="operator_key_refused", headers=NO_RETRY)

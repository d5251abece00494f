"""`/llm/v1`: an OpenAI-compatible API for instances, in front of the operator's provider or the echo model."""

from bot.front.models.router import router
from bot.front.models.state import ModelsState

__all__ = ["ModelsState", "router"]

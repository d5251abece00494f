"""Skills as their owner meets them in the chat: `/skills`, what is offered, and what is told."""

from bot.front.skillchat.counter import SKILLS, SkillCounter
from bot.front.skillchat.interests import Interests
from bot.front.skillchat.news import SkillNews

__all__ = ["SKILLS", "Interests", "SkillCounter", "SkillNews"]

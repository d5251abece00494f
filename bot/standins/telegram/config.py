"""What the simulator is told once, at its start."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SimulatorConfig:
    """Settings of one simulated bot.

    Raises ValueError if the token has not the form that Telegram gives out.
    """

    #: `<bot id>:<secret>`, as BotFather hands it out; any other token gets Telegram's 401.
    token: str = field(repr=False)
    bot_username: str = "zaki_demo_bot"
    bot_name: str = "Zaki"
    #: Whether Telegram's own limits apply: 30 sends a second, one a second per chat, 20 a minute per group.
    enforce_limits: bool = False
    #: Seconds that an undelivered message update is kept.
    message_lifetime: float = 24 * 3600
    #: Seconds that an undelivered callback query is kept, and may be answered.
    callback_lifetime: float = 150
    #: Seconds between which the longest pause of webhook retries is drawn.
    longest_retry: tuple[float, float] = (60, 120)
    #: Seconds that a webhook may take to answer.
    webhook_timeout: float = 60

    def __post_init__(self) -> None:
        bot_id, _, secret = self.token.partition(":")
        if not (bot_id.isascii() and bot_id.isdigit() and secret):
            raise ValueError("A bot token looks like 1234567890:secret; give the simulator one of that form.")

    @property
    def bot_id(self) -> int:
        return int(self.token.partition(":")[0])

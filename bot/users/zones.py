"""Time zones: guessed from a language, found by a city's name, or chosen from a region's best-known cities."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches
from functools import cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

#: Cities that stand for their zones, by region, from west to east.
REGIONS: dict[str, tuple[str, ...]] = {
    "Americas": (
        "Pacific/Honolulu",
        "America/Anchorage",
        "America/Los_Angeles",
        "America/Phoenix",
        "America/Denver",
        "America/Mexico_City",
        "America/Chicago",
        "America/Bogota",
        "America/Lima",
        "America/Toronto",
        "America/New_York",
        "America/Caracas",
        "America/Santiago",
        "America/Halifax",
        "America/Sao_Paulo",
        "America/Buenos_Aires",
    ),
    "Europe": (
        "Atlantic/Reykjavik",
        "Europe/Dublin",
        "Europe/Lisbon",
        "Europe/London",
        "Europe/Madrid",
        "Europe/Paris",
        "Europe/Amsterdam",
        "Europe/Berlin",
        "Europe/Rome",
        "Europe/Stockholm",
        "Europe/Warsaw",
        "Europe/Athens",
        "Europe/Bucharest",
        "Europe/Kyiv",
        "Europe/Istanbul",
        "Europe/Moscow",
    ),
    "Africa": (
        "Africa/Casablanca",
        "Africa/Accra",
        "Africa/Algiers",
        "Africa/Lagos",
        "Africa/Kinshasa",
        "Africa/Tunis",
        "Africa/Johannesburg",
        "Africa/Maputo",
        "Africa/Khartoum",
        "Africa/Cairo",
        "Africa/Addis_Ababa",
        "Africa/Nairobi",
    ),
    "Asia": (
        "Asia/Jerusalem",
        "Asia/Beirut",
        "Asia/Baghdad",
        "Asia/Riyadh",
        "Asia/Tehran",
        "Asia/Dubai",
        "Asia/Karachi",
        "Asia/Tashkent",
        "Asia/Kolkata",
        "Asia/Dhaka",
        "Asia/Bangkok",
        "Asia/Jakarta",
        "Asia/Shanghai",
        "Asia/Singapore",
        "Asia/Manila",
        "Asia/Seoul",
        "Asia/Tokyo",
    ),
    "Pacific": (
        "Australia/Perth",
        "Australia/Darwin",
        "Australia/Adelaide",
        "Australia/Brisbane",
        "Australia/Sydney",
        "Pacific/Guam",
        "Pacific/Auckland",
        "Pacific/Fiji",
    ),
}

_BY_LANGUAGE: dict[str, tuple[str, ...]] = {
    "ar": ("Africa/Cairo", "Asia/Riyadh", "Asia/Dubai", "Africa/Casablanca"),
    "bg": ("Europe/Sofia",),
    "bn": ("Asia/Dhaka", "Asia/Kolkata"),
    "cs": ("Europe/Prague",),
    "da": ("Europe/Copenhagen",),
    "de": ("Europe/Berlin", "Europe/Vienna", "Europe/Zurich"),
    "el": ("Europe/Athens",),
    "en": ("Europe/London", "America/New_York", "America/Chicago", "America/Los_Angeles"),
    "en-au": ("Australia/Sydney", "Australia/Brisbane", "Australia/Perth"),
    "en-ca": ("America/Toronto", "America/Vancouver"),
    "en-gb": ("Europe/London",),
    "en-in": ("Asia/Kolkata",),
    "en-nz": ("Pacific/Auckland",),
    "en-us": ("America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"),
    "es": ("Europe/Madrid", "America/Mexico_City", "America/Bogota", "America/Buenos_Aires"),
    "es-ar": ("America/Buenos_Aires",),
    "es-mx": ("America/Mexico_City", "America/Tijuana"),
    "et": ("Europe/Tallinn",),
    "fa": ("Asia/Tehran",),
    "fi": ("Europe/Helsinki",),
    "fr": ("Europe/Paris", "Europe/Brussels", "Europe/Zurich", "America/Montreal"),
    "he": ("Asia/Jerusalem",),
    "hi": ("Asia/Kolkata",),
    "hr": ("Europe/Zagreb",),
    "hu": ("Europe/Budapest",),
    "id": ("Asia/Jakarta", "Asia/Makassar", "Asia/Jayapura"),
    "it": ("Europe/Rome", "Europe/Zurich"),
    "ja": ("Asia/Tokyo",),
    "kk": ("Asia/Almaty",),
    "ko": ("Asia/Seoul",),
    "lt": ("Europe/Vilnius",),
    "lv": ("Europe/Riga",),
    "ms": ("Asia/Kuala_Lumpur", "Asia/Singapore"),
    "nb": ("Europe/Oslo",),
    "nl": ("Europe/Amsterdam", "Europe/Brussels"),
    "pl": ("Europe/Warsaw",),
    "pt": ("Europe/Lisbon", "America/Sao_Paulo"),
    "pt-br": ("America/Sao_Paulo", "America/Manaus"),
    "ro": ("Europe/Bucharest", "Europe/Chisinau"),
    "ru": ("Europe/Moscow", "Asia/Yekaterinburg", "Asia/Novosibirsk", "Asia/Vladivostok"),
    "sk": ("Europe/Bratislava",),
    "sl": ("Europe/Ljubljana",),
    "sr": ("Europe/Belgrade",),
    "sv": ("Europe/Stockholm", "Europe/Helsinki"),
    "sw": ("Africa/Nairobi",),
    "th": ("Asia/Bangkok",),
    "tr": ("Europe/Istanbul",),
    "uk": ("Europe/Kyiv",),
    "ur": ("Asia/Karachi",),
    "uz": ("Asia/Tashkent",),
    "vi": ("Asia/Ho_Chi_Minh",),
    "zh": ("Asia/Shanghai", "Asia/Hong_Kong", "Asia/Taipei", "Asia/Singapore"),
}
_BY_LANGUAGE["no"] = _BY_LANGUAGE["nb"]
_BY_LANGUAGE["zh-hant"] = _BY_LANGUAGE["zh-tw"] = ("Asia/Taipei", "Asia/Hong_Kong")

_OFFSET = re.compile(r"(?:utc|gmt)\s*(?:([+-])\s*(\d{1,2})(?::?00)?)?\Z")
_MOST_SUGGESTIONS = 4
_DAYS = {-1: "yesterday", 0: "today", 1: "tomorrow"}


def guess(language: str | None) -> tuple[str, ...]:
    """Zones where people with Telegram set to this language (an IETF tag) mostly are; empty where it says nothing."""
    tag = (language or "").lower().replace("_", "-")
    return _known(_BY_LANGUAGE.get(tag) or _BY_LANGUAGE.get(tag.partition("-")[0]) or ())


def region(name: str) -> tuple[str, ...]:
    """The zones of a region's best-known cities; empty for an unknown region."""
    return _known(REGIONS.get(name, ()))


def find(text: str) -> tuple[str, ...]:
    """Zones that a typed text may mean, the likeliest first: one where it is clear, several to choose from, or none."""
    words = _key(text)
    offset = _OFFSET.match(text.strip().lower())
    if offset is not None:
        hours = int(offset[2] or 0)
        # POSIX counts these the other way round.
        name = f"Etc/GMT{'-' if offset[1] != '-' else '+'}{hours}" if hours else "Etc/UTC"
        return _known((name,))
    if not words:
        return ()
    names = _names()
    if words in names:
        return names[words]
    inside = sorted({zone for key, zones in names.items() if len(words) > 2 and words in key for zone in zones})
    if inside:
        return tuple(inside[:_MOST_SUGGESTIONS])
    close = get_close_matches(words, names, n=_MOST_SUGGESTIONS, cutoff=0.75)
    return tuple(dict.fromkeys(zone for key in close for zone in names[key]))[:_MOST_SUGGESTIONS]


def is_zone(name: str) -> bool:
    """Whether this is the name of a zone, such as `Europe/Berlin`."""
    return name in available_timezones()


def city(zone: str) -> str:
    """How people call the zone: `New York` for `America/New_York`."""
    return zone.rpartition("/")[2].replace("_", " ")


def clock(zone: str, at: datetime | None = None) -> str:
    """What a clock shows there, now by default: `14:05`."""
    return (at or datetime.now(UTC)).astimezone(ZoneInfo(zone)).strftime("%H:%M")


def moment(zone: str | None, at: float, now: float) -> str:
    """When that is (Unix times) to somebody there: `today at 14:05`; in UTC, and saying so, where no zone is known.

    Raises ValueError for a time that no calendar has.
    """
    try:
        place: tzinfo = ZoneInfo(zone or "")
    except (ZoneInfoNotFoundError, ValueError):
        place = UTC
    try:
        then, today = datetime.fromtimestamp(at, place), datetime.fromtimestamp(now, place).date()
    except (OverflowError, OSError):
        raise ValueError(f"{at} is no time.") from None
    days = (then.date() - today).days
    day = _DAYS.get(days) or f"on {then:%A}, {then.day} {then:%B}" + (f" {then.year}" if abs(days) > 180 else "")
    return f"{day} at {then:%H:%M}" + (" UTC" if place is UTC else "")


def _known(zones: Sequence[str]) -> tuple[str, ...]:
    """Those that this machine's zone data has; names come and go between its versions."""
    return tuple(zone for zone in zones if is_zone(zone))


def _key(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """Zones by their names and by their cities, in lower case; the same city may be in two zones' names."""
    found: dict[str, tuple[str, ...]] = {}
    places = {zone for zones in REGIONS.values() for zone in zones}
    # Old links such as `US/Pacific` come last, the well-known cities first.
    for zone in sorted(available_timezones(), key=lambda zone: (zone not in places, zone)):
        if zone.startswith(("posix/", "right/", "SystemV/")) or "/" not in zone:
            continue
        for key in dict.fromkeys((_key(zone), _key(city(zone)))):
            found[key] = (*found.get(key, ()), zone)
    # Argentina's and Indiana's cities have two names each for one zone.
    return {key: zones if len({_rules(zone) for zone in zones}) > 1 else zones[:1] for key, zones in found.items()}


def _rules(zone: str) -> tuple[object, ...]:
    """What the clocks there do this year, by which two names of one zone are told."""
    year = datetime.now(UTC).year
    return tuple(datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset() for month in range(1, 13))

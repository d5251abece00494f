"""The pages of `/skills`: what each says, and the buttons below it."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from bot.front.skillchat import needs as plain
from bot.front.skillchat.catalogue import Found, Offer, Refused
from bot.front.skillchat.keys import versions_key
from bot.front.skillchat.presses import OFFERED, Verb, button, of_policy, of_skill, of_version
from bot.front.skillchat.recommendations import Recommendation
from bot.front.talk import Button, Buttons, escape
from bot.skills.holdings import Holding
from bot.skills.names import Reference, SkillName
from bot.skills.sets import SkillSet
from bot.store.tables import SkillPolicy, SkillProgress, SkillStatus

Page = tuple[str, Buttons]

#: Skills on one page, and characters of a label, a title, a summary, a sentence about needs, and a reason.
_ON_PAGE = 10
_LABEL = 28
_TITLE = 60
#: UTF-16 units of a message, as Telegram counts them; here tags count too, so that there is always room.
_MOST = 3900
_SUMMARY = 180
_NEEDS = 320
_REASON = 400

OFF = "The people who run this bot have switched skills off."
_POLICIES = {
    SkillPolicy.PATCH: "Small fixes by themselves",
    SkillPolicy.LATEST: "Every new version by itself",
    SkillPolicy.PIN: "Stay at this version",
}
_SAYS = {
    SkillPolicy.PATCH: "small fixes come by themselves",
    SkillPolicy.LATEST: "every new version comes by itself",
    SkillPolicy.PIN: "it stays at this version",
}


def mine(holdings: Sequence[Holding], number: int, *, open_: bool) -> Page:
    """What the person has; `number` counts pages from 0, `open_` is whether there is more to be had."""
    last = max(0, (len(holdings) - 1) // _ON_PAGE)
    number = min(number, last)
    shown = holdings[number * _ON_PAGE : (number + 1) * _ON_PAGE]
    if holdings:
        of_many = f" ({number + 1} of {last + 1})" if last else ""
        lines = [f"🧩 <b>Skills of your assistant</b>{of_many}", ""]
        lines += [f"• <b>{_title(one.title)}</b>{_version(one)} – {_standing(one)}" for one in shown]
    else:
        lines = ["🧩 <b>Your assistant has no skills yet.</b>", "A skill teaches it to do something well."]
    if open_:
        lines += ["", "To find more, write what it should do: <code>/skills weather</code>"]
    else:
        lines += ["", OFF]
    rows = _pairs([of_skill(_label(one.title), Verb.SHOW, one.name) for one in shown])
    turn = [button("‹", Verb.LIST, str(number - 1))] if number else []
    turn += [button("›", Verb.LIST, str(number + 1))] if number < last else []
    if turn:
        rows.append(turn)
    if open_:
        rows.append([button("🔎 Look for more", Verb.ASK), button("💡 Suggestions", Verb.HINTS)])
    rows.append([button("⚙️ Settings", Verb.OPTIONS)])
    return _joined(lines, "\n"), rows


def held(one: Holding, needs: Mapping[str, Any], summary: str) -> Page:
    """A skill that the person has, or is about to."""
    lines = [f"🧩 <b>{_title(one.title)}</b>{_version(one)}\n{escape(str(one.name))}"]
    if summary:
        lines.append(escape(_cut(summary, _SUMMARY)))
    lines.append(f"{_standing(one).capitalize()}.")
    if one.detail:
        lines.append(escape(_cut(one.detail, _REASON)))
    if one.status is SkillStatus.ASKS and one.offered:
        return _joined([*lines, _asks(one.offered, one.asks)], "\n\n"), [*_decision(one.name, one.offered), *_back()]
    if one.version is not None:
        lines.append(f"It {escape(_cut(plain.in_short(needs), _NEEDS))}.")
        lines.append(f"Updates: {_SAYS[one.policy]}.")
    rows: list[list[Button]] = []
    if one.wanted and not one.recalled:
        rows.append([of_skill("🗑 Remove", Verb.REMOVE, one.name), of_skill("Updates…", Verb.POLICY, one.name)])
    return _joined(lines, "\n\n"), [*rows, *_back()]


def offered(found: Offer | Refused) -> Page:
    """A skill that the person does not have."""
    if isinstance(found, Refused):
        return f"🚫 {escape(_cut(found.says, _REASON))}", _more()
    return _described(found), [[of_version("➕ Install", Verb.ADD, found.name, found.version)], *_back()]


def results(words: str, found: Found, having: Mapping[SkillName, Holding]) -> Page:
    """What a search found."""
    lines = []
    if found.hint:
        lines.append(f"i️ {escape(_cut(found.hint, _REASON))}")
    if found.offers:
        lines.append(f"🔎 <b>Skills for “{escape(words)}”</b>")
    elif not found.hint:
        lines.append(f"🔎 Nothing for “{escape(words)}” passed the checks. Other words may find something.")
    lines += [_described(offer, have=offer.name in having) for offer in found.offers]
    if found.unfinished:
        lines.append(f"{found.unfinished} more are being checked; look again in a minute.")
    rows = [
        [
            of_skill(f"✓ {_label(offer.title)}", Verb.SHOW, offer.name)
            if offer.name in having
            else of_version(f"➕ {_label(offer.title)}", Verb.ADD, offer.name, offer.version)
        ]
        for offer in found.offers
    ]
    return _joined(lines, "\n\n"), [*rows, *_more()]


def recommended(found: Sequence[Recommendation], *, needs: bool) -> Page:
    """What the person may like; `needs`: whether there are sets to choose from."""
    if found:
        lines = [
            "💡 <b>You may like</b>",
            *(f"• <b>{_title(one.title)}</b>, {escape(_cut(one.because, _SUMMARY))}." for one in found),
        ]
    else:
        lines = ["💡 There is nothing to suggest yet: suggestions come from the skills that you have."]
    rows = _pairs([of_skill(_label(one.title), Verb.SHOW, one.name) for one in found])
    if needs:
        rows.append([button("By need…", Verb.NEEDS)])
    return _joined(lines, "\n"), [*rows, *_more()]


def by_need(needs: Sequence[SkillSet]) -> Page:
    """The sets."""
    lines = ["🧩 <b>What should your assistant be good at?</b>", ""]
    lines += [f"• <b>{_title(one.title)}</b>: {escape(_cut(one.says, _SUMMARY))}" for one in needs]
    rows = _pairs([button(_label(one.title), Verb.NEED, one.key) for one in needs])
    return _joined(lines, "\n"), [*rows, *_back()]


def offer(needs: Sequence[SkillSet]) -> Page:
    """The sets, offered once after the first reply."""
    lines = ["🧩 <b>Your assistant can learn more.</b> Is any of this for you?", ""]
    lines += [f"• <b>{_title(one.title)}</b>: {escape(_cut(one.says, _SUMMARY))}" for one in needs]
    rows = _pairs([button(_label(one.title), Verb.NEED, one.key, OFFERED) for one in needs])
    return _joined(lines, "\n"), [*rows, [button("Not now", Verb.LATER)]]


LATER = "All right. /skills is there whenever you like."


def need(one: SkillSet, found: Sequence[Offer | Refused], having: Mapping[SkillName, Holding], *, first: bool) -> Page:
    """What is in a set; `first`: it was offered after the first reply."""
    words = (OFFERED,) if first else ()
    lines = [f"🧩 <b>{_title(one.title)}</b>\n{escape(_cut(one.says, _SUMMARY))}"]
    for skill in found:
        if isinstance(skill, Offer):
            lines.append(_described(skill, have=skill.name in having))
        else:
            lines.append(f"🚫 {escape(_cut(skill.says, _REASON))}")
    new = [skill for skill in found if isinstance(skill, Offer) and skill.name not in having]
    label = "➕ Install" if len(new) == 1 else f"➕ Install these {len(new)}"
    shown = versions_key(Reference(skill.name, skill.version) for skill in new)
    add = [[button(label, Verb.ADD_SET, one.key, shown, *words)]] if new else []
    back = [button("Not now", Verb.LATER)] if first else [button("‹ By need", Verb.NEEDS)]
    return _joined(lines, "\n\n"), [*add, back]


def policy(one: Holding) -> Page:
    """How a skill is kept current."""
    text = (
        f"🧩 <b>{_title(one.title)}</b>{_version(one)}\nWhich new versions should come by themselves? "
        "One that asks for something new always asks you first."
    )
    rows = [
        [of_policy(f"{'✓ ' if one.policy is policy else ''}{label}", one.name, policy)]
        for policy, label in _POLICIES.items()
    ]
    return text, [*rows, [of_skill("‹ Back", Verb.SHOW, one.name)]]


def options(*, from_messages: bool) -> Page:
    """The person's settings."""
    text = (
        "⚙️ <b>Settings for skills</b>\n\nSuggestions come from the skills that you have. "
        "They may come from what you write as well, if you let them: then it is noted which of the needs in the list "
        "your messages are about, never what they say. "
        f"Now: <b>{'on' if from_messages else 'off'}</b>."
    )
    change = (
        button("Do not look at my messages", Verb.OPTIONS, "off")
        if from_messages
        else button("Suggestions from my messages too", Verb.OPTIONS, "on")
    )
    return text, [[change], *_back()]


def asks(name: SkillName, title: str, version: str | None, news: Mapping[str, Any], installed: str | None) -> Page:
    """A newer version that newly needs something; `news`: what, by kind."""
    stays = f" It stays at {escape(installed)} until you decide." if installed else ""
    text = f"⬆️ <b>{_title(title)}</b> has a new version.\n\n{_asks(version or '', news)}{stays}"
    return text, _decision(name, version) if version else _back()


def kept(one: Holding) -> Page:
    """The answer to “Keep the old one”."""
    text = f"👍 <b>{_title(one.title)}</b> stays at {escape(one.version or 'what it is')}. /skills changes that."
    return text, _back()


def failed(sentence: str) -> Page:
    """A look-up that did not work."""
    return escape(_cut(sentence, _REASON)), _more()


def progress(rows: Sequence[SkillProgress], titles: Mapping[SkillName, str]) -> Page:
    """How far skills are."""
    lines = []
    for row in rows:
        name = SkillName(row.owner, row.slug)
        icon, words = _PROGRESS.get(row.shown, _PROGRESS["waiting"])
        said = f" {escape(_cut(row.detail, _REASON))}" if row.detail else ""
        lines.append(f"{icon} <b>{_title(titles.get(name, name.slug))}</b> {words}{said}")
    return _joined(lines, "\n"), [[button("‹ My skills", Verb.LIST)]]


def searching(words: str) -> str:
    """While nothing is found yet."""
    return f"🔎 Looking for “{escape(words)}”…"


#: By `skill_progress.shown`.
_PROGRESS = {
    "waiting": ("⏳", "comes as soon as your assistant has a moment."),
    SkillStatus.INSTALLING: ("⏳", "is being installed…"),
    SkillStatus.INSTALLED: ("✅", "is there."),
    SkillStatus.REMOVING: ("🗑", "is being removed…"),
    SkillStatus.FAILED: ("😕", "did not work."),
    SkillStatus.ASKS: ("⬆️", "has a new version that asks for something new; /skills shows it."),
    "gone": ("🗑", "is gone."),
}


def _described(found: Offer, *, have: bool = False) -> str:
    summary = f"\n{escape(_cut(found.summary, _SUMMARY))}" if found.summary else ""
    needs = escape(_cut(plain.in_short(found.needs), _NEEDS))
    had = " – you have it" if have else ""
    head = f"<b>{_title(found.title)}</b> {escape(found.version)}{had}\n{escape(str(found.name))}"
    return f"{head}{summary}\n<i>It {needs}.</i>"


def _asks(version: str, news: Mapping[str, Any]) -> str:
    lines = [f"• It {escape(_cut(sentence, _NEEDS))}" for sentence in plain.sentences(news)]
    return "\n".join([f"Version {escape(version)} newly asks for this:", *(lines or ["• something else than before"])])


def _decision(name: SkillName, version: str) -> list[list[Button]]:
    keep = of_version("Keep the old one", Verb.KEEP, name, version)
    return [[of_version("Update", Verb.UPDATE, name, version), keep]]


def _standing(one: Holding) -> str:
    if one.recalled:
        return "was taken back and is being removed"
    if not one.wanted or one.status is SkillStatus.REMOVING:
        return "is being removed"
    match one.status:
        case SkillStatus.INSTALLED:
            return "installed"
        case SkillStatus.INSTALLING:
            return "is being installed"
        case SkillStatus.FAILED:
            return "could not be updated" if one.version else "could not be installed"
        case SkillStatus.ASKS:
            return f"version {escape(one.offered or '')} waits for your word"
        case _:
            # Nobody wished for it, but it was downloaded.
            return "your assistant got it itself" if one.version else "comes as soon as your assistant has a moment"


def _version(one: Holding) -> str:
    return f" {escape(one.version)}" if one.version else ""


def _back() -> list[list[Button]]:
    return [[button("‹ My skills", Verb.LIST)]]


def _more() -> list[list[Button]]:
    return [[button("‹ My skills", Verb.LIST), button("🔎 Look again", Verb.ASK)]]


def _pairs(buttons: Sequence[Button]) -> list[list[Button]]:
    return [list(buttons[start : start + 2]) for start in range(0, len(buttons), 2)]


def _joined(lines: Sequence[str], between: str) -> str:
    """As many of the lines as fit into a message."""
    room = _MOST
    for index, line in enumerate(lines):
        room -= len(html.unescape(line).encode("utf-16-le")) // 2 + len(between)
        if room < 0:
            return between.join([*lines[:index], f"… and {len(lines) - index} more."])
    return between.join(lines)


def _title(title: str) -> str:
    return escape(_cut(title, _TITLE))


def _label(title: str) -> str:
    return _cut(title, _LABEL)


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"

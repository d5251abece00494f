"""Files in both directions."""

import struct
import zlib
from typing import Any

import pytest
from telegram import Bot, InputMediaDocument, InputMediaPhoto
from telegram.error import BadRequest


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + b"\x80" * 3 * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def test_a_person_sends_a_photo_and_the_bot_downloads_it(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.send_file(person, "photo", "sea.png", png(40, 30), caption="From /home")
    (update,) = await bot.get_updates(timeout=5)
    message = update.message
    assert message is not None
    assert message.caption == "From /home"
    assert [entity.type for entity in message.caption_entities] == ["bot_command"]
    assert (message.photo[-1].width, message.photo[-1].height) == (40, 30)
    file = await message.photo[-1].get_file()
    assert file.file_path is not None
    assert file.file_path.endswith("/photos/file_0.jpg")
    assert bytes(await file.download_as_bytearray()) == png(40, 30)


@pytest.mark.parametrize("kind", ["document", "voice", "audio", "video"])
async def test_a_person_sends_other_files(sim: Any, bot: Bot, kind: str) -> None:
    person = await sim.client.new_user()
    await sim.client.send_file(person, kind, "thing.bin", b"content")
    (update,) = await bot.get_updates(timeout=5)
    attachment = getattr(update.message, kind)
    assert bytes(await (await attachment.get_file()).download_as_bytearray()) == b"content"


@pytest.mark.parametrize("kind", ["photo", "document", "voice", "audio", "video", "animation", "sticker"])
async def test_the_bot_uploads_and_sends_again_by_id(sim: Any, bot: Bot, kind: str) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    send = getattr(bot, f"send_{kind}")

    def file(message: Any) -> Any:
        return message.photo[-1] if kind == "photo" else getattr(message, kind)

    sent = file(await send(person.id, png(4, 4)))
    again = file(await send(person.id, sent.file_id))
    assert again.file_unique_id == sent.file_unique_id


async def test_an_album_and_its_caption(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    album = await bot.send_media_group(
        person.id, [InputMediaPhoto(png(4, 4), caption="<b>two</b>", parse_mode="HTML"), InputMediaPhoto(png(5, 5))]
    )
    assert (album[0].caption, album[0].caption_entities[0].type) == ("two", "bold")
    assert album[0].media_group_id == album[1].media_group_id
    edited = await album[0].edit_caption("three")
    assert not isinstance(edited, bool)
    assert edited.caption == "three"
    replaced = await album[0].edit_media(InputMediaDocument(b"text", filename="notes.txt"))
    assert not isinstance(replaced, bool)
    assert replaced.document is not None
    assert (replaced.document.file_name, replaced.photo) == ("notes.txt", ())


async def test_nothing_is_fetched_from_a_url(sim: Any, bot: Bot) -> None:
    person = await sim.client.new_user()
    await sim.client.say(person, "hello")
    with pytest.raises(BadRequest, match="Failed to get http url content"):
        await bot.send_photo(person.id, "http://127.0.0.1:1/secret.png")
    with pytest.raises(BadRequest, match=r"(?i)invalid file_id"):
        await bot.get_file("unknown")

"""A disk that is not mounted when its person writes, as after a boot."""

from __future__ import annotations

import subprocess

from bot.bench.standin_image import standin_image
from bot.provisioner import disks
from bot.toolchain import Toolchain
from tests.e2e.conversation.served import ServedZaki, until
from tests.e2e.conversation.test_first_conversation import docker, echoes
from tests.e2e.conversation.test_rest import no_leftovers, shown, talk


async def test_a_disk_that_was_unmounted_is_mounted_again_and_the_person_gets_an_answer(
    zaki: ServedZaki, toolchain: Toolchain
) -> None:
    zaki.stop()
    await zaki.start(ZAKI_IMAGE=standin_image(toolchain.image_tag))
    ada = await zaki.people.new_user(first_name="Ada")
    await talk(zaki, ada, "hello from Ada")
    instance = await zaki.instance_of(ada.id)
    assert instance is not None
    volumes = zaki.host.volumes
    assert (instance.volumes, volumes is not None) == (str(volumes), True)
    assert volumes is not None
    docker("exec", instance.id, "sh", "-c", "echo mine >/home/node/note")
    use = shown(zaki, instance.id)["disk"]
    assert (use["size_mib"] > 1800, use["most_files"] >= 200_000, use["percent"] < 10) == (True, True, True)

    zaki.kill()
    docker("stop", "--time", "1", instance.id)
    subprocess.run(["umount", volumes / instance.id], check=True)
    assert not disks.is_mounted(volumes, instance.id)
    await zaki.start(ZAKI_IMAGE=instance.image)
    said = await zaki.people.say(ada, "are you there?")
    await zaki.people.wait_for_reply(ada, after=said.id, timeout=120, predicate=echoes("are you there?"))
    assert disks.is_mounted(volumes, instance.id)
    assert docker("exec", instance.id, "cat", "/home/node/note") == "mine\n"
    await no_leftovers(zaki)

    zaki.command("instance", "rm", instance.id, "--yes")

    async def gone() -> bool:
        return await zaki.instance_of(ada.id) is None

    await until(gone, "the deletion")
    assert disks.ids(volumes) == set()
    assert instance.id not in subprocess.run(["losetup", "--list"], capture_output=True, text=True, check=True).stdout

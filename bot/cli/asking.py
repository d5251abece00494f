"""Asks for a change of one instance's state and sees it done, whether a service runs or not."""

from __future__ import annotations

import asyncio

from bot.cli.output import CliError
from bot.provisioner.app import Provisioner
from bot.provisioner.decision import Action, Request
from bot.provisioner.lease import LeaseHeld

#: Seconds that whoever works on the instance gets to finish first.
_WITHIN = 180.0
_TRY_EVERY = 0.5


async def ask_for(provisioner: Provisioner, instance_id: str, action: Action) -> None:
    """Have it done now.

    Raises :class:`bot.provisioner.work.Refused` where it may not be, :class:`bot.provisioner.work.InstanceBroken` where
    it does not come up, :class:`CliError` where others are at work on it for too long.
    """
    request = Request(action, "The operator asked for it.")
    deadline = asyncio.get_running_loop().time() + _WITHIN
    while True:
        try:
            await provisioner.reconciler.carry_out(instance_id, request)
            return
        except LeaseHeld:
            if asyncio.get_running_loop().time() > deadline:
                raise CliError(
                    f"{instance_id} is still being worked on after {_WITHIN:.0f} seconds; "
                    f"`zaki instance show {instance_id}` says by what."
                ) from None
            await asyncio.sleep(_TRY_EVERY)

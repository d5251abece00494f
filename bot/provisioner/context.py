"""What the provisioner's parts share."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

import httpx

from bot.credentials import FrontKey, GatewayKey
from bot.hostfacts import HostFacts
from bot.nobody import NOBODY
from bot.nudge import Nudge
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers
from bot.provisioner.gateway import Gateway
from bot.provisioner.openclaw import GatewayConfig, Owner
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.store import Database
from bot.store.tables import Instance, User
from bot.users.plans import PLANS
from infra.spec import InstanceSpec


@dataclass(frozen=True)
class ProvisionerContext:
    """Handed to each part at start."""

    settings: Settings
    database: Database
    nudge: Nudge
    host: HostFacts
    front_key: FrontKey
    gateway_key: GatewayKey
    containers: Containers
    stacks: StackManager
    archive: Archive
    http: httpx.AsyncClient

    def gateway(self, instance: Instance) -> Gateway:
        """The admin side of an instance."""
        token = self.gateway_key.derive(instance.id, instance.credentials_epoch)
        return Gateway(self.http, str(instance.address), token)

    def config(self, instance: Instance, user: User | None) -> GatewayConfig:
        """What the instance's configuration is rendered from; `user` None: a member of the warm pool, nobody's."""
        listen = self.settings.effective_instances_listen(self.host.gateway)
        return GatewayConfig(
            owner=Owner(NOBODY, None, None) if user is None else Owner(user.telegram_id, user.call_name, user.timezone),
            credentials=self.front_key.derive(instance.id, instance.credentials_epoch),
            gateway_token=self.gateway_key.derive(instance.id, instance.credentials_epoch),
            front_url=f"http://{listen}",
        )

    def spec(self, instance: Instance) -> InstanceSpec:
        """What the instance's stack declares; every value from the plan, the row and the host, none from the person."""
        plan = PLANS[instance.plan]
        return InstanceSpec(
            id=instance.id,
            address=IPv4Address(str(instance.address)),
            network=self.host.network,
            image=instance.image,
            memory_mib=plan.memory_mib,
            swap_mib=plan.swap_mib,
            cpus=plan.cpus,
            pids=plan.pids,
            runtime=self.host.runtime,
            plan=plan.name,
        )

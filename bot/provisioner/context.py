"""What the provisioner's parts share."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address

import httpx

from bot.credentials import FrontKey, GatewayKey
from bot.egress import Egress
from bot.hostfacts import HostFacts
from bot.nobody import NOBODY
from bot.nudge import Nudge
from bot.provisioner import disks
from bot.provisioner.archive import Archive
from bot.provisioner.containers import Containers, Observed
from bot.provisioner.egress import EgressSets
from bot.provisioner.gateway import Gateway
from bot.provisioner.openclaw import GatewayConfig, Owner
from bot.provisioner.stacks import StackManager
from bot.settings import Settings
from bot.skills.sets import SkillSets
from bot.store import Database
from bot.store.tables import Instance, User
from bot.users.plans import PLANS
from infra.spec import InstanceSpec, skills_environment

#: On an image: where its executable is that `security.installPolicy` runs.
POLICY_LABEL = "zaki.install-policy"


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
    egress: EgressSets
    #: What the plans' instances have from the beginning.
    sets: SkillSets = field(default_factory=SkillSets)

    @property
    def skills_url(self) -> str | None:
        """The mirror of skills as instances reach it; None: the operator wants none."""
        if self.settings.skills_url is None:
            return None
        return f"http://{self.settings.effective_instances_listen(self.host.gateway)}/skills"

    @property
    def skills_environment(self) -> dict[str, str]:
        """What a client of ClawHub's needs in an instance, also in one that was made before there were skills."""
        return skills_environment(self.skills_url) if self.skills_url is not None else {}

    def gateway(self, instance: Instance) -> Gateway:
        """The admin side of an instance."""
        token = self.gateway_key.derive(instance.id, instance.credentials_epoch)
        return Gateway(self.http, str(instance.address), token)

    def config(self, instance: Instance, user: User | None, observed: Observed | None) -> GatewayConfig:
        """What the instance's configuration is rendered from; `user` None: a member of the warm pool, nobody's.

        `observed`: its container, which has its image's labels.
        """
        labels = observed.shape.labels if observed is not None and observed.shape is not None else {}
        listen = self.settings.effective_instances_listen(self.host.gateway)
        return GatewayConfig(
            owner=Owner(NOBODY, None, None) if user is None else Owner(user.telegram_id, user.call_name, user.timezone),
            credentials=self.front_key.derive(instance.id, instance.credentials_epoch),
            gateway_token=self.gateway_key.derive(instance.id, instance.credentials_epoch),
            front_url=f"http://{listen}",
            proxied=Egress(instance.egress) is Egress.LIST,
            skills_url=self.skills_url,
            install_policy=labels.get(POLICY_LABEL),
        )

    async def mount_disk(self, instance: Instance) -> None:
        """Mount the disk of an instance that has one, before anybody reads or writes its volume."""
        if instance.volumes is not None:
            await disks.mount(instance.volumes, instance.id)

    async def remove_disk(self, instance_id: str, volumes: str | None) -> None:
        """Remove the disk of an instance that has no volume any more, in this folder or in the host's; none is fine."""
        folders = {str(folder) for folder in (volumes, self.host.volumes) if folder is not None}
        for folder in folders:
            await disks.remove(folder, instance_id)

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
            disk_mib=plan.disk_mib,
            inodes=plan.inodes,
            volumes=instance.volumes,
            runtime=self.host.runtime,
            plan=plan.name,
            resolver=self.host.egress.resolver if self.host.egress is not None else None,
            proxy=self.egress.proxy(plan.name) if Egress(instance.egress) is Egress.LIST else None,
            skills=self.skills_url,
        )

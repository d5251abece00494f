"""What a hand has changed at a container, told by comparing it with what its stack declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bot.provisioner.containers import Observed
from bot.provisioner.shape import Shape
from bot.store.tables import ContainerState
from infra.spec import (
    ENVIRONMENT,
    HOME,
    INSTANCE_LABEL,
    PIDS_LABEL,
    PLAN_LABEL,
    STACK_LABEL,
    TMPFS,
    USER,
    InstanceSpec,
)

_MIB = 1 << 20
_LIVE = (ContainerState.RUNNING, ContainerState.PAUSED)


def drift(observed: Observed, spec: InstanceSpec) -> str | None:
    """One sentence on the first thing that is not as declared; None where nothing is, or nothing is known of it."""
    shape = observed.shape
    if shape is None:
        return None
    return next(_differences(shape, spec, live=observed.state in _LIVE), None)


def _differences(shape: Shape, spec: InstanceSpec, *, live: bool) -> Iterator[str]:
    yield from _identity(shape, spec, live=live)
    yield from _network(shape, spec)
    yield from _limits(shape, spec, live=live)
    yield from _confinement(shape, spec)


def _identity(shape: Shape, spec: InstanceSpec, *, live: bool) -> Iterator[str]:
    if spec.image not in (shape.image, shape.image_name):
        yield f"It runs the image {shape.image_name}, not {spec.image}."
    labels = {INSTANCE_LABEL: spec.id, STACK_LABEL: spec.id, PLAN_LABEL: spec.plan, PIDS_LABEL: str(spec.pids)}
    for name, value in {**spec.labels, **labels}.items():
        if shape.labels.get(name) != value:
            yield f"Its label {name} is {_or_missing(shape.labels.get(name))}, not {value}."
    if shape.user != USER:
        yield f"It runs as the user {shape.user or 'root'}, not {USER}."
    # No hand changes it, a newer program does; and that is no reason to cut anybody off.
    if not live and (lost := sorted(set(ENVIRONMENT) - shape.environment)):
        yield f"Its environment lacks {lost[0].partition('=')[0]}."
    if (wanted := {("volume", spec.id, HOME)}) != shape.mounts:
        other = sorted(shape.mounts ^ wanted)[0]
        yield f"The {other[0]} {other[1]} is {'' if other in shape.mounts else 'not '}mounted at {other[2]}."


def _network(shape: Shape, spec: InstanceSpec) -> Iterator[str]:
    if spec.network not in shape.networks:
        yield f"It is not on the network {spec.network} any more."
    elif shape.networks[spec.network] != str(spec.address):
        yield f"Its address is {shape.networks[spec.network] or 'not fixed'}, not {spec.address}."
    for name in sorted(shape.networks.keys() - {spec.network}):
        yield f"It is on the network {name} besides its own."
    if shape.ports:
        yield "It publishes a port of the host."


def _limits(shape: Shape, spec: InstanceSpec, *, live: bool) -> Iterator[str]:
    for what, has, wanted in (
        ("memory", shape.memory, spec.memory_mib),
        ("memory and swap", shape.memory_and_swap, spec.swap_mib),
    ):
        if has != wanted * _MIB:
            yield f"Its limit of {what} is {f'{has // _MIB} MiB' if has > 0 else 'gone'}, not {wanted} MiB."
    if shape.nano_cpus != round(float(spec.cpus) * 1_000_000_000):
        has_cpus = f"{shape.nano_cpus / 1_000_000_000:g}" if shape.nano_cpus else "gone"
        yield f"Its limit of processors is {has_cpus}, not {spec.cpus}."
    if shape.cpu_shares:
        yield f"Its share of the processors is {shape.cpu_shares}, not the default."
    # The stack cannot declare this one: it is set whenever the container is started.
    if live and shape.pids != spec.pids:
        yield f"Its limit of processes is {shape.pids or 'gone'}, not {spec.pids}."


#: What confines every instance in the same way: whether it is so, and the sentence where it is not.
_CONFINED: tuple[tuple[Callable[[Shape], bool], str], ...] = (
    (lambda shape: not shape.privileged, "It is privileged."),
    (lambda shape: shape.read_only, "Its root file system can be written to."),
    (lambda shape: shape.dropped_capabilities == {"ALL"}, "Not all of its capabilities are dropped."),
    (lambda shape: not shape.added_capabilities, "It has capabilities that no instance has."),
    (lambda shape: "no-new-privileges" in shape.security_options, "It may gain new privileges."),
    (lambda shape: len(shape.security_options) <= 1, "It has security options that no instance has."),
    (lambda shape: not shape.host_namespaces, "It shares a namespace of the host."),
    (lambda shape: not shape.devices, "It has devices of the host."),
    (lambda shape: shape.restart == "no", "Docker restarts it by itself."),
    (lambda shape: shape.init, "It has no init process."),
    (lambda shape: shape.tmpfs == TMPFS, "Its temporary files are not kept as declared."),
)


def _confinement(shape: Shape, spec: InstanceSpec) -> Iterator[str]:
    for holds, sentence in _CONFINED:
        if not holds(shape):
            yield sentence
    if shape.runtime != spec.runtime:
        yield f"Its runtime is {shape.runtime or 'the default'}, not {spec.runtime}."


def _or_missing(value: str | None) -> str:
    return "missing" if value is None else value

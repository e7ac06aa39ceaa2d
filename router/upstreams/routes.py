"""Who may answer a call: the places that a target has, in the order in which they are asked. Pure.

A target is who was chosen (a role's version, an arm, a model); a route is one place where it can
be had. Routes of the lowest order are the target itself, at one server or several; those of a
higher order answer in its stead, which is noted as a fallback and counts for the arm that was
assigned (intention to treat).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from router.roster import Target
from router.upstreams.config import CallRules, GatewayConfig, TargetEntry


@dataclass(frozen=True)
class Route:
    """One place where a call may be answered."""

    target: Target
    weight: float = 1.0
    order: int = 0


def model_target(model: str, config: GatewayConfig) -> Target | None:
    """Return the target of a model that the file names with places of its own; None if it does not.

    It carries the first place's server, for the record of a call that nobody answers.
    """
    entry = config.models.get(model)
    if entry is None or not entry.targets:
        return None
    first = min(entry.targets, key=lambda one: one.order)
    return Target(first.model or model, config.upstream(first.upstream))


def routes_to(target: Target, rules: CallRules, config: GatewayConfig) -> tuple[Route, ...]:
    """Return the routes of a call; the first is in the target's own order.

    The places of the model's entry stand for the target where there are any; the role's fallbacks
    come after all of them.
    """
    if not rules.targets and not rules.fallbacks:
        return (Route(target),)
    own = [_route(entry, target, config) for entry in rules.targets] or [Route(target)]
    own.sort(key=lambda route: route.order)
    last = own[-1].order + 1
    after = [_fallback(entry, last, config) for entry in rules.fallbacks]
    return (*own, *sorted(after, key=lambda route: route.order))


def _route(entry: TargetEntry, target: Target, config: GatewayConfig) -> Route:
    """Return a place of the target: still the same version of ours, if it is one."""
    upstream = config.upstream(entry.upstream)
    model = entry.model or target.model
    is_adapter = target.is_adapter and entry.model is None
    there = Target(model, upstream, target.version_id, target.version_name, is_adapter)
    return Route(there, _weight(entry, config), entry.order)


def _fallback(entry: TargetEntry, order: int, config: GatewayConfig) -> Route:
    assert entry.model is not None  # the file is refused otherwise
    there = Target(entry.model, config.upstream(entry.upstream))
    return Route(there, _weight(entry, config), order + entry.order)


def _weight(entry: TargetEntry, config: GatewayConfig) -> float:
    if entry.weight is not None:
        return entry.weight
    upstream = config.upstream(entry.upstream)
    return upstream.weight if upstream else 1.0


def choose(routes: Sequence[Route], rng: random.Random) -> Route | None:
    """Return one of the lowest order, by weight; None if there are none."""
    if len(routes) < 2:
        return routes[0] if routes else None
    lowest = min(route.order for route in routes)
    first = [route for route in routes if route.order == lowest]
    return rng.choices(first, [route.weight for route in first])[0]

"""A loop's health as Prometheus reads it, through `prometheus-client` (extra: metrics)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from vla_edge.runtime.command.extras import require
from vla_edge.runtime.control.causes import Cause
from vla_edge.runtime.control.loop.health import Health, State
from vla_edge.runtime.errors import InputError

LOOPBACK = "127.0.0.1"
_COUNTERS = (
    ("ticks", "Ticks of the loop that were answered", "ticks"),
    ("missed_ticks", "Ticks that went by unanswered", "missed_ticks"),
    ("frames", "Frames that the camera gave", "frames"),
    ("dropped_frames", "Frames replaced by newer ones before the policy took them", "dropped_frames"),
    ("actions", "Actions that the policy gave in time", "actions"),
    ("commands", "Commands that were sent, stops included", "commands"),
    ("moving_commands", "Commands that were sent and no stops", "moving_commands"),
    ("failed_sends", "Commands that the robot's driver refused", "failed_sends"),
    ("resets", "Resets after faults", "resets"),
)


class _Collector:
    """Asked at each scrape."""

    def __init__(self, health: Callable[[], Health | None]) -> None:
        self._health = health

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        health = self._health()
        if health is None:
            return
        for name, words, attribute in _COUNTERS:
            yield CounterMetricFamily(f"vla_{name}", words, value=getattr(health, attribute))
        stops = CounterMetricFamily("vla_stops", "What stopped the robot", labels=["cause"])
        for cause in Cause:
            stops.add_metric([cause.value], health.stops.get(cause, 0))
        yield stops
        states = GaugeMetricFamily("vla_state", "1 for the state of the loop", labels=["state"])
        for state in State:
            states.add_metric([state.value], float(health.state is state))
        yield states
        latency = GaugeMetricFamily(
            "vla_latency_seconds", "From a frame's capture to its command", labels=["quantile"]
        )
        for quantile, found in (("0.5", health.latency_p50_ms), ("0.99", health.latency_p99_ms)):
            if found is not None:
                latency.add_metric([quantile], found / 1e3)
        yield latency
        yield GaugeMetricFamily(
            "vla_rate_hertz", "Commands per second that were asked for", value=health.rate_hz
        )
        yield InfoMetricFamily("vla", "What runs", value={"engine": health.engine, "bundle": health.bundle})


def prometheus_text(health: Callable[[], Health | None]) -> str:
    """The health in Prometheus' text format.

    Args:
        health: such as `controller.health`.

    Raises:
        MissingPackageError: `prometheus-client` is not installed.
    """
    from prometheus_client import generate_latest

    return generate_latest(_registry(health)).decode("utf-8")


@contextmanager
def served(port: int | None, health: Callable[[], Health | None]) -> Iterator[None]:
    """Answer Prometheus at this port of this machine alone, for a block; None does nothing.

    Raises:
        InputError: the port is taken.
        MissingPackageError: `prometheus-client` is not installed.
    """
    if port is None:
        yield
        return
    registry = _registry(health)
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise InputError(
            f"port {port} of {LOOPBACK} cannot be had: {error.strerror}.", "Give --metrics another one."
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry(health: Callable[[], Health | None]) -> Any:
    require("metrics", "prometheus_client")
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(health))
    return registry

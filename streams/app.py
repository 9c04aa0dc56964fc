"""The Faust app of a worker: which topics, which agents, which hooks; the one place where the order can be read.

An agent here is an object with ``assign``, ``revoke``, ``handle``, ``resume_offset`` and ``durable_offset`` per
partition (streams.agents). A delivery is acknowledged after ``handle`` returned: then its
outputs are with the producer; that they are durable is what ``durable_offset`` says.
"""

import asyncio
from typing import Protocol

from streams.agents.stateful import StatefulAgent
from streams.config import Settings
from streams.transport import TP, EngineApp, Hooks, Lease, PartitionBatch, build_app, deliveries


class Agent(Protocol):
    """What the app needs of an agent."""

    async def assign(self, partition: int, generation: int | None = None) -> None: ...

    async def revoke(self, partition: int, generation: int | None = None) -> None: ...

    async def handle(self, batch: PartitionBatch) -> None: ...

    def resume_offset(self, partition: int) -> int | None: ...

    def durable_offset(self, partition: int) -> int | None: ...


def build_worker_app(settings: Settings, agents: dict[str, Agent], lease: Lease) -> EngineApp:
    """The app that delivers each topic's batches to its agent. Call it inside the running event loop."""

    async def on_assigned(tps: frozenset[TP]) -> None:
        await asyncio.gather(*(agents[tp.topic].assign(tp.partition, app.generation) for tp in sorted(tps)))
        for agent in agents.values():
            if isinstance(agent, StatefulAgent):
                agent.forget_parked()

    async def on_revoked(tps: frozenset[TP]) -> None:
        for tp in sorted(tps):
            await agents[tp.topic].revoke(tp.partition, app.generation)

    hooks = Hooks(
        on_assigned=on_assigned,
        on_revoked=on_revoked,
        durable_offset=lambda tp: agents[tp.topic].durable_offset(tp.partition),
        stored_offset=lambda tp: agents[tp.topic].resume_offset(tp.partition),
    )
    app = build_app(settings.transport_settings(), batch_topics=list(agents), hooks=hooks, lease=lease)
    for topic, agent in agents.items():
        app.agent(app.batch_topic(topic), name=topic)(_body(agent))
    return app


def _body(agent: Agent):
    async def body(stream) -> None:
        async for delivery in deliveries(stream):
            await agent.handle(delivery.batch)
            delivery.ack()

    return body

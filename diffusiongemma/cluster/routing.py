"""Which replica gets a request: a conversation's own while it has room, else the less busy of two."""

from __future__ import annotations

import random
from typing import Any

from ray.serve.request_router import FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter

from diffusiongemma.cluster.conversations import home_of


class ConversationRouter(FIFOMixin, LocalityMixin, MultiplexMixin, RequestRouter):
    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        """Groups, tried in order; of a group Ray takes the replica with the shortest queue that has room."""
        pair = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        conversation = pending_request.metadata.session_id if pending_request is not None else ""
        if not conversation or not candidate_replicas:
            return [pair]
        names = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        return [[names[home_of(conversation, list(names))]], pair]

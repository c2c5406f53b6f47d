"""Keeps a replica at the installation's active artifacts, and tells the installation what the replica serves."""

import asyncio
import logging
import math
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple
from uuid import uuid4

from reference_db.errors import ReferenceDatabaseError, StoreForbidden
from service.artifacts.activation import Activation
from service.artifacts.installation import ActiveArtifact, Installation, Replica
from service.background import BlockingCalls, Job, JobFailed
from service.errors import ActivationInProgress, ArtifactNotFound, ServiceError
from service.telemetry.metrics import Metrics

_log = logging.getLogger("fingerpost.models")

_RETRIED_S = 60.0  # an artifact that could not take over is tried again after this time
_REPORT_HOLDS_S = 15.0  # at least; a replica that was killed is listed for as long
_WITHDRAWN_S = 1.0
_ADOPTION_S = 3600.0  # longest adoption: every cell in memory is calibrated


class _Failed(NamedTuple):
    active: ActiveArtifact
    reason: str
    at: float  # time.monotonic


class ArtifactFollower:
    """Two jobs: adopts active artifacts, and reports. For the event loop's thread."""

    def __init__(self, installation: Installation, activation: Activation, metrics: Metrics, period_s: float) -> None:
        # Unique: two replicas on one machine may have the same process id in containers of their own.
        self.name = f"{socket.gethostname()[:64]}-{os.getpid()}-{uuid4().hex[:6]}"
        self._installation = installation
        self._activation = activation
        self._metrics = metrics
        self._period_s = period_s
        self.unreported: str | None = None  # why other replicas cannot see this one
        self._failed: dict[str, _Failed] = {}  # by family
        self._logged: str | None = None  # the problem that the log told last
        self._reading = BlockingCalls("active artifacts")
        self._reporting = BlockingCalls("replica report")
        for family in activation.digests:
            metrics.artifact_missing.labels(family)  # a missing series looks like a missing service

    def list_jobs(self) -> list[Job]:
        return [
            Job("artifacts", self._follow, self._period_s, timeout_s=_ADOPTION_S),
            Job("replica report", self._report, self._period_s),
        ]

    async def withdraw(self) -> None:
        """Tells the installation that this replica stops, if the store answers soon. Call when the jobs have ended."""
        with suppress(TimeoutError, ReferenceDatabaseError):
            async with asyncio.timeout(_WITHDRAWN_S):
                while True:
                    with suppress(JobFailed):  # the last report is still being written, and must not outlive this
                        return await self._reporting.run(self._installation.withdraw, self.name)
                    await asyncio.sleep(0.01)

    def describe(self, active: Mapping[str, ActiveArtifact] | None = None) -> Replica:
        """What this replica serves now. With the `active` artifacts, without problems with earlier ones."""
        failed = [one for one in self._failed.values() if active is None or active.get(one.active.family) == one.active]
        problems = [f"{one.active.folder} ({one.active.digest[:12]}): {one.reason}" for one in failed]
        return Replica(
            name=self.name,
            artifacts=self._activation.digests,
            problem="; ".join(problems) or None,
            valid_s=max(_REPORT_HOLDS_S, 3 * self._period_s),
        )

    async def _follow(self) -> None:
        turns = self._activation.turns  # before the question: the answer may be older than what is activated meanwhile
        active = await self._reading.run(self._installation.active)
        digests = self._activation.digests
        for family in digests:
            wanted = active.get(family)
            if wanted is None or wanted.digest == digests[family]:
                self._failed.pop(family, None)
            else:
                turns = await self._adopt(wanted, turns)
            self._metrics.artifact_missing.labels(family).set(family in self._failed)
        self._log_problem(self.describe().problem)

    def _log_problem(self, problem: str | None) -> None:
        """Logs a problem once. It is no failure of the job: it has a metric and an alert of its own."""
        if problem is not None and problem != self._logged:
            _log.warning("cannot serve with the active artifact %s", problem)
        self._logged = problem

    async def _adopt(self, active: ActiveArtifact, turns: int) -> int:
        """Returns `turns` with those of this adoption, and without those of others."""
        failed = self._failed.get(active.family)
        if failed and failed.active == active and time.monotonic() - failed.at < _RETRIED_S:
            return turns
        try:
            await self._activation.adopt(active, turns)
        except ActivationInProgress:
            return turns
        except ArtifactNotFound as error:  # whether it is there now is asked each time
            self._failed[active.family] = _Failed(active, error.reason, -math.inf)
            return turns
        except ServiceError as error:
            self._failed[active.family] = _Failed(active, error.reason, time.monotonic())
        else:
            self._failed.pop(active.family, None)
        return turns + 2

    async def _report(self) -> None:
        """Reports once. A database that this replica may not write to is a choice of its operator, and no failure."""
        try:
            await self._reporting.run(self._installation.report, self.describe())
        except StoreForbidden as error:
            if self.unreported is None:
                _log.warning("other replicas cannot see this one (%s): %s", self.name, error)
            self.unreported = str(error)
        else:
            self.unreported = None

"""The errors that `Client` and `AsyncClient` raise."""

from fingerpost.wire import Problem


class ClientError(Exception):
    """A request got no result. The text says why and can be shown to a person."""


class NoAnswer(ClientError):
    """The service could not be reached, or its answer is not one of this API."""


class Refused(ClientError):
    """The service answered with an error: `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.status} {problem.cause}: {problem.detail}")
        self.problem = problem

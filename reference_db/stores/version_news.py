"""How a replica hears that others have published."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class News(Protocol):
    """What a `Store` may be besides: one that tells of new versions, so that nobody has to ask for them all the time.

    News may be lost, with a connection or with what keeps them; whoever follows them looks at the pointers now and
    then all the same.
    """

    def changed(self, timeout_s: float) -> set[str]:
        """The cells published, by anybody, since the last call; waits for the first of them `timeout_s` at most.

        The first call begins to listen: it tells of what comes from then on. Each store object has its own place in
        the news. For one thread. Raises `StoreUnavailable`; the next call goes on where the last one stood.
        """

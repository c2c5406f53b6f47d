"""What is known of a stop that is near: set by whoever runs the app, said by its readiness."""


class Draining:
    """The service goes on serving for a while after `began`, so that balancers hear of it and ask others."""

    began = False

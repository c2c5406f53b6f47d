import httpx

from models.artifact import load_artifact
from service.settings import Settings


def test_describes_the_artifact_that_serves(client: httpx.Client, settings: Settings) -> None:
    artifact = load_artifact(settings.artifact_directory)
    model, *_ = client.get("/models").json()["models"]
    assert model["digest"] == artifact.digest
    assert (model["folder"], model["state"], model["configured"]) == ("mateformer", "active", True)
    assert model["csi"]["antennas"] == artifact.manifest.csi.antennas
    assert model["neighbourhoodSize"] == artifact.manifest.neighbourhood_size
    assert model["metrics"] == artifact.manifest.metrics

import httpx

from models.artifact import MateformerManifest, load_artifact
from service.settings import Settings


def test_describes_the_artifact_that_serves(client: httpx.Client, settings: Settings) -> None:
    artifact = load_artifact(settings.artifact_directory, MateformerManifest)
    model, *_ = client.get("/models").json()["models"]
    assert model["digest"] == artifact.digest
    assert (model["folder"], model["state"], model["configured"]) == ("mateformer", "active", True)
    assert model["csi"]["carrierFrequency"] == artifact.manifest.csi.carrier_frequency.model_dump()
    assert model["features"] == artifact.manifest.features
    assert model["neighbourhoodSize"] == artifact.manifest.neighbourhood_size
    assert model["metrics"] == artifact.manifest.metrics

"""The dashboard and its provisioning. `test_prometheus` checks that its queries return data."""

import json
from typing import Any

import yaml

from tests.deploy.dockerfile import ROOT

FOLDER = ROOT / "deploy" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboards" / "fingerpost.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
WIDTH = 24


def test_every_panel_has_a_title_a_description_and_a_unit() -> None:
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_panels_fill_their_rows_and_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    covered = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    height = max(place["y"] + place["h"] for place in places)
    assert sorted(covered) == [(x, y) for x in range(WIDTH) for y in range(height)]


def test_the_first_row_has_all_single_figures() -> None:
    assert {panel["type"] for panel in PANELS if panel["gridPos"]["y"] == 0} == {"stat"}
    assert all(panel["type"] != "stat" for panel in PANELS if panel["gridPos"]["y"] > 0)


def test_panels_query_the_chosen_data_source() -> None:
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    assert all(asker["datasource"] == chosen for panel in PANELS for asker in (panel, *panel["targets"]))
    assert "datasource" in {one["name"] for one in DASHBOARD["templating"]["list"]}


def test_compose_provisions_the_dashboard_and_its_source() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    (provider,) = yaml.safe_load((FOLDER / "provisioning/dashboards/fingerpost.yaml").read_text())["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/fingerpost.json"
    (source,) = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://prometheus:9090")
    prometheus = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]

from pathlib import Path

import numpy as np
import pytest
import torch

from models.families import find_yaml
from models.lwlm.data import Links, load_links
from models.lwlm.experiment import LwlmExperiment, load_experiment
from models.lwlm.labels import BLOCK_M, LabelledUsers, choose_users, label_users, split_blocks
from models.lwlm.learner import split_users
from models.lwlm.network import normalise
from models.lwlm.recipe import LwlmRecipe
from models.radio.tracing import parse_cells


@pytest.fixture(scope="module")
def labelled(lwlm_recipe: LwlmRecipe, links: Links) -> LabelledUsers:
    return label_users(links, torch.arange(links.users), lwlm_recipe.decoding.snapshots, 3)


def places(users: LabelledUsers) -> set[tuple[float, ...]]:
    return {tuple(place) for group in users.groups for place in group.user.tolist()}


def test_a_larger_budget_begins_with_the_smaller_one() -> None:
    users = torch.arange(500)
    small, large, whole = (choose_users(users, count, 3) for count in (30, 100, None))
    assert large[:30].tolist() == small.tolist()
    assert sorted(whole.tolist()) == users.tolist()
    assert choose_users(users, 30, 4).tolist() != small.tolist()


def test_blocks_are_labelled_or_tested_as_a_whole(links: Links) -> None:
    home, others = split_blocks(links)
    assert sorted([*home.tolist(), *others.tolist()]) == list(range(links.users))
    assert len(home) > 8
    assert len(others) > 8
    block = {user: tuple(np.floor(links.user[user].numpy() / BLOCK_M)) for user in range(links.users)}
    assert not {block[user] for user in home.tolist()} & {block[user] for user in others.tolist()}
    for user in home.tolist():  # the neighbouring block in the east is a tested one
        east = (block[user][0] + 1, block[user][1])
        assert not [other for other in home.tolist() if block[other] == east]


def test_all_stations_of_a_user_are_labelled_and_shapes_do_not_mix(
    labelled: LabelledUsers, links: Links, lwlm_recipe: LwlmRecipe
) -> None:
    assert labelled.users == links.users
    assert len(labelled.groups) == 2
    assert places(labelled) == {tuple(place) for place in links.user.tolist()}
    for group in labelled.groups:
        b = len(group.user)
        assert group.csi.shape[:2] == group.reached.shape == (b, 3)
        assert group.csi.shape[2] in lwlm_recipe.decoding.snapshots.antennas
        assert group.csi.shape[3] in lwlm_recipe.decoding.snapshots.subcarriers
        assert set(group.configuration[..., 0].unique().tolist()) == {20e6, 50e6}
        assert (group.configuration[:, :, 0] != group.configuration[:, :1, 0]).any()  # each link its own


def test_a_labelled_snapshot_is_its_link_at_20_db(labelled: LabelledUsers, links: Links) -> None:
    group = labelled.groups[0]
    place = {tuple(one): user for user, one in enumerate(links.user.tolist())}
    a, s = group.csi.shape[2:4]
    for row in range(len(group.user)):
        user = place[tuple(group.user[row].tolist())]
        for station in range(3):
            if not group.reached[row, station]:
                continue
            clean, configuration, truth = links.observe(
                torch.tensor([user]), torch.tensor([station]), a, s, group.configuration[row, station, :1]
            )
            torch.testing.assert_close(configuration[0], group.configuration[row, station])
            torch.testing.assert_close(truth.position[0], group.truth.position[row, station])
            assert truth.range[0] == group.truth.range[row, station]
            H, noisy = (torch.view_as_complex(one)[0] for one in (normalise(clean), group.csi[row, station][None]))
            likeness = (H.conj() * noisy).sum().abs() / (H.norm() * noisy.norm())
            assert likeness == pytest.approx(1 / np.sqrt(1.01), abs=0.004)


def test_the_same_seed_gives_the_same_snapshots(lwlm_recipe: LwlmRecipe, links: Links, labelled: LabelledUsers) -> None:
    again = label_users(links, torch.arange(links.users), lwlm_recipe.decoding.snapshots, 3)
    other = label_users(links, torch.arange(links.users), lwlm_recipe.decoding.snapshots, 4)
    assert torch.equal(again.groups[0].csi, labelled.groups[0].csi)
    assert other.groups[0].csi.shape != again.groups[0].csi.shape or not torch.equal(
        other.groups[0].csi, again.groups[0].csi
    )


def test_a_batch_keeps_users_and_their_answers_together(labelled: LabelledUsers) -> None:
    drawn = labelled.draw(5, np.random.default_rng(1))
    assert len(drawn.user.unique(dim=0)) == 5
    whole = next(group for group in labelled.groups if group.csi.shape[3] == drawn.csi.shape[3])
    for row in range(5):
        source = (whole.user == drawn.user[row]).all(1).nonzero()[0, 0]
        assert torch.equal(drawn.csi[row], whole.csi[source])
        for one, other in zip(drawn.truth, whole.truth, strict=True):
            assert torch.equal(one[row], other[source])
        assert torch.equal(drawn.reached[row], whole.reached[source])


def test_a_budget_counts_snapshots_of_all_stations(lwlm_recipe: LwlmRecipe, streets: Path) -> None:
    few = lwlm_recipe.model_copy(update={"decoding": lwlm_recipe.decoding.model_copy(update={"labels": 30})})
    labelled, tested = split_users(few, streets)
    assert labelled.users == 10
    train, test = (load_links([street], 3, streets) for street in ("etoile:0", "etoile:2"))
    assert places(labelled) < {tuple(place) for place in train.user.tolist()}
    assert places(tested) == {tuple(place) for place in test.user.tolist()}


def test_at_home_labelled_and_tested_users_are_others_of_the_tested_streets(
    lwlm_recipe: LwlmRecipe, streets: Path
) -> None:
    home = lwlm_recipe.model_copy(update={"decoding": lwlm_recipe.decoding.model_copy(update={"home": True})})
    labelled, tested = split_users(home, streets)
    street = {tuple(place) for place in load_links(["etoile:2"], 3, streets).user.tolist()}
    assert places(labelled) | places(tested) == street
    assert not places(labelled) & places(tested)


def test_every_model_is_tested_with_the_same_snapshots(lwlm_recipe: LwlmRecipe, streets: Path) -> None:
    other = lwlm_recipe.model_copy(
        update={"decoding": lwlm_recipe.decoding.model_copy(update={"seed": 9, "labels": 12})}
    )
    for one, two in zip(
        split_users(lwlm_recipe, streets)[1].groups, split_users(other, streets)[1].groups, strict=True
    ):
        assert torch.equal(one.csi, two.csi)


def committed() -> list[LwlmRecipe]:
    recipes = [LwlmRecipe.load(path) for path in find_yaml("lwlm", "recipes")]
    for path in find_yaml("lwlm", "experiments"):
        for budget in LwlmExperiment.load(path)[0].budgets:
            recipes += load_experiment(path, budget)[1].values()
    return recipes


def test_no_committed_recipe_trains_or_chooses_in_a_tested_city() -> None:
    recipes = committed()
    assert len(recipes) > 100
    for recipe in recipes:
        streets = recipe.streets
        train, validation, test = (set(parse_cells(one)) for one in (streets.train, streets.validation, streets.test))
        assert not train & validation
        assert not {city for city, _ in train | validation} & {city for city, _ in test}

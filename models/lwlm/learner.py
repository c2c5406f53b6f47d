"""`fingerpost-train fit` for LWLM: the pretraining, then the decoders, each in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import torch

from models.lwlm.data import Links, load_links
from models.lwlm.decoding import DecodingLearner, Lwlm, load_lwlm
from models.lwlm.labels import LabelledUsers, choose_users, label_users, split_blocks
from models.lwlm.network import LwlmEncoder
from models.lwlm.pretraining import PretrainingLearner, load_encoder
from models.lwlm.recipe import LwlmRecipe
from models.pipeline.learner import is_trained

PRETRAINING, DECODING = "pretraining", "decoding"
TESTED_SEED = 2028  # the tested snapshots are the same for every model


def fit(recipe: LwlmRecipe, paths: Path, run: Path, device: torch.device) -> Lwlm:
    """Trains what is not trained yet. Raises `RecipeChanged`, and `FileNotFoundError` for a missing path table."""
    encoder = None
    if recipe.decoding.pretrained:
        encoder = pretrain(
            recipe, load_links(recipe.streets.train, recipe.streets.stations, paths), run / PRETRAINING, device
        )
    labelled, _ = split_users(recipe, paths)
    return train_decoders(recipe, labelled, encoder, run / DECODING, device)


def pretrain(recipe: LwlmRecipe, links: Links, folder: Path, device: torch.device) -> LwlmEncoder:
    recipe = recipe.for_pretraining()
    if not is_trained(folder, recipe):
        PretrainingLearner(recipe, links, folder, device).run()
    return load_encoder(folder, recipe)


def train_decoders(
    recipe: LwlmRecipe, labelled: LabelledUsers, encoder: LwlmEncoder | None, folder: Path, device: torch.device
) -> Lwlm:
    recipe = recipe.for_decoders()
    if not is_trained(folder, recipe):
        DecodingLearner(recipe, labelled, encoder, folder, device).run()
    return load_lwlm(folder, recipe)


def split_users(recipe: LwlmRecipe, paths: Path) -> tuple[LabelledUsers, LabelledUsers]:
    """The users that the decoders learn from, and those that they are tested with."""
    streets, decoding = recipe.streets, recipe.decoding
    links = load_links(streets.test if decoding.home else streets.train, streets.stations, paths)
    users = split_blocks(links)[0] if decoding.home else torch.arange(links.users)
    count = None if decoding.labels is None else decoding.labels // streets.stations
    chosen = choose_users(users, count, decoding.seed)
    return label_users(links, chosen, decoding.snapshots, decoding.seed), load_tested(recipe, paths)


def load_tested(recipe: LwlmRecipe, paths: Path) -> LabelledUsers:
    """The users of the test streets; at home, those whom the decoders do not learn from."""
    links = load_links(recipe.streets.test, recipe.streets.stations, paths)
    users = split_blocks(links)[1] if recipe.decoding.home else torch.arange(links.users)
    return label_users(links, users, recipe.tested, TESTED_SEED)

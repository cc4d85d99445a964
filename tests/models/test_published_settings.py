"""The defaults of systems are the constants of their papers or programs, transcribed here by hand with their places.

Where a paper and its program differ, the setting's description names the reading that is not the default.
"""

from __future__ import annotations

import pytest

from crossmodal.core import registry

PRINTED = {
    "vsepp": {  # the options of its authors' program (fartashf/vsepp); hinges are summed, `grad_clip` is 2
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "clip": 2.0, "clip_by": "norm", "margin": 0.2,
        "dim": 1024, "word_dim": 300, "layers": 1, "min_count": 4, "reduction": "sum", "negatives": "all",
        "warm_up": 0.0, "weight_decay": 0.0, "image_unit": True, "image_views": "random", "image_flips": True,
    },
    "scan": {  # the first command of its README, for Flickr30K, and the slope of its program
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "clip": 2.0, "margin": 0.2, "dim": 1024,
        "word_dim": 300, "attention": "text-to-image", "smooth": 9.0, "sharpness": 6.0, "pooling": "logsumexp",
        "slope": 0.1, "other_smooth": 4.0, "other_sharpness": 5.0, "reduction": "sum", "negatives": "all",
    },
    "a3vse": {  # section 4.3, but for `reduction` and what the paper leaves open
        "batch_size": 128, "epochs": 24, "lr": 5e-4, "lr_drop": 16, "lr_factor": 0.1, "weight_decay": 1e-6, "clip": 2.0,
        "dim": 512, "heads": 3, "margin": 0.2, "margin_semantics": 0.3, "beta": 0.8, "steepness": 10.0,
        "adversary": 1.0, "image_unannotated": 0.2, "text_semantics": 0.1, "image_text": 0.5,
        "unannotated_semantics": 0.5, "image_semantics": 0.3, "unannotated_text": 0.3, "min_count": 4,
        "max_words": 82, "rare_words": "drop", "attention": True, "semantics": "regional", "reduction": "sum",
        "negatives": "other_groups", "warm_up": 0.0, "discriminate": "unit", "epoch_over": "all",
    },
    "mfsr": {  # sections 3.1, 3.4 and 3.5
        "batch_size": 24, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 0.0, "dim": 3072,
        "word_dim": 300, "layers": 4, "part_dim": None, "norm": "parts", "reduction": "mean",
        "negatives": "other_groups", "correlation": "signed", "gan": "text", "same": "made", "warm_up": 0.0,
        "modal": 1.0, "specific": 1.0, "image": 1.0, "caption": 1.0, "per_word": False,
    },
    "dan": {  # J. Liang's DualAttentionNetwork
        "batch_size": 256, "epochs": 60, "lr": 0.1, "word_lr": 100.0, "later_epochs": 60, "later_lr": 0.05,
        "later_dropout": 0.2, "dropout": 0.5, "optimiser": "adadelta", "weight_decay": 5e-4, "clip": 0.1,
        "clip_by": "value", "dim": 512, "word_dim": 512, "steps": 2, "margin": 100.0, "negatives": "mined",
        "candidates": 32,
    },
    "dpc": {  # layumi/Image-Text-Embedding on Flickr30K
        "batch_size": 32, "epochs": 240, "ranking_epochs": 60, "lr": 0.01, "optimiser": "nesterov", "clip": 0.0,
        "weight_decay": 1e-4, "norm_lr": 2.0, "word_lr": 0.01, "classifier_lr": 0.1, "dim": 2048, "word_dim": 300,
        "widths": (256, 512, 1024, 2048), "inner": (128, 512, 1024, 2048), "blocks": (3, 4, 6, 1), "length": 32,
        "dropout": 0.75, "margin": 1.0, "negatives": "mined", "candidates": 256, "ranking_weight": 2.0,
        "ranking_text_weight": 0.1,
    },
    "cvs": {  # section 4.2 of the thesis; eq. 3.1.4 and 3.1.6 as a cross-entropy and as means
        "dim": 512, "batch_size": 128, "lr": 1e-3, "margins": (1.0, 1.0, 1.0), "gammas": (0.25, 0.25, 0.5),
        "attention": True, "unit": False, "terms": ("i", "s", "is"), "other_classes": "none", "triplets": "mean",
        "class_weight": 1.0, "triplet_weight": 1.0, "sampling": "shuffled", "standardise": True, "partner": "mean",
    },
    "dscmr": {  # penghu-cs/DSCMR
        "hidden": (2048,), "dim": 1024, "batch_size": 100, "epochs": 500, "lr": 1e-4, "betas": (0.5, 0.999),
        "clip": 0.0, "class_weight": 1.0, "modal_weight": 1e-3, "invariance_weight": 0.1, "scale": 0.5, "norms": "rows",
        "bias": True, "standardise": False, "sampling": "shuffled",
    },
    "acmr": {  # its authors' program with triplets
        "dim": 200, "batch_size": 64, "epochs": 200, "lr": 1e-4, "betas": (0.5, 0.999), "clip": 0.0,
        "label_weight": 100.0, "triplet_weight": 1.0, "triplets": "similar", "hinge": "batch", "margin": 0.1,
        "positive_weight": 5.0, "adversary": "linear", "standardise": False, "sampling": "shuffled",
    },
    "devise": {"standardise": False, "margin": 0.1, "sampling": "shuffled"},  # Frome et al. (2013)
    "conse": {"top": 10},  # Norouzi et al. (2014): ConSE(10)
    "socher": {"units": 100, "neighbours": 20, "spread": 3.0, "gate": True},  # Socher et al. (2013)
    "chtn": {"standardise": "none", "single_modal": 1.0, "cross_modal": 1.0, "sampling": "shuffled"},
    "dckt": {"standardise": "none", "media": 1.0, "correlation": 1.0, "pairs": 1.0, "sampling": "shuffled"},
    "deepsm": {"standardise": False, "sampling": "shuffled"},
}  # fmt: skip

# What the description of a setting says of the reading that is not its default.
OTHER_READINGS = {
    ("vsepp", "reduction"): "print the mean over the pairs",
    ("vsepp", "negatives"): "only pairs of other images",
    ("mfsr", "reduction"): "eq. 8 prints the mean",
    ("mfsr", "norm"): "as eq. 3 prints",
    ("mfsr", "clip"): "the paper names none",
    ("mfsr", "correlation"): "as eq. 10 prints it",
    ("scan", "slope"): "the paper prints 0",
    ("a3vse", "sharpness_image"): "not in the paper",
    ("a3vse", "discriminate"): "as they are (eq. 4)",
    ("a3vse", "epoch_over"): "the annotated pairs alone",
    ("dan", "clip_by"): "the paper only states that gradients are clipped at .1",
    ("dan", "mined_image"): "as was probably intended",
    ("dpc", "dropout"): "the program has .5 on MS-COCO",
    ("acmr", "triplets"): "in no program",
    ("dscmr", "norms"): "as eq. 2.4.1 prints",
    ("dscmr", "scale"): "which print them unscaled",
    ("cvs", "other_classes"): "printed: 1 - log f",
    ("cvs", "triplets"): "eq. 3.1.6 prints the sum",
    ("cvs", "unit"): "the thesis normalises the output of attention",
    ("chtn", "standardise"): "which alone already aligns the two distributions",
    ("cvs", "sampling"): "items of large classes are left out",
}


@pytest.mark.parametrize("model", PRINTED)
def test_defaults_are_as_printed(model):
    settings = registry.module("models", model).Settings()
    assert {name: getattr(settings, name) for name in PRINTED[model]} == PRINTED[model]


@pytest.mark.parametrize(("model", "name"), OTHER_READINGS)
def test_a_setting_says_which_other_reading_there_is(model, name):
    described = registry.module("models", model).Settings.model_fields[name].description
    assert OTHER_READINGS[model, name] in described

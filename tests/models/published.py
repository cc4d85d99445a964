"""The constants of the systems, transcribed by hand from their papers or programs, and those that are chosen here.

Programs are named as OWNER/NAME on GitHub. What is from memory has no source that could be read.
"""

from __future__ import annotations

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
    # Image–sentence retrieval.
    "vse0": {  # the options of fartashf/vsepp without `max_violation`: all negatives count
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 2.0, "clip_by": "norm",
        "weight_decay": 0.0, "margin": 0.2, "dim": 1024, "word_dim": 300, "layers": 1, "min_count": 4,
        "reduction": "sum", "negatives": "all", "warm_up": 1.0, "image_views": "random", "image_flips": True,
    },
    "order_embeddings": {  # driver.py of ivendrov/order-embedding; each parameter's gradient is clipped
        "batch_size": 128, "lr": 1e-3, "clip": 2.0, "margin": 0.05, "dim": 1024, "word_dim": 300, "layers": 1,
        "absolute": True, "reduction": "sum", "negatives": "other_groups", "warm_up": 1.0, "weight_decay": 0.0,
        "image_unit": True,
    },
    "cmpm": {  # scripts/train_flickr_resnet_cmpm.sh of YingZhangDUT/Cross-Modal-Projection-Learning, first stage
        "batch_size": 32, "epochs": 15, "lr": 2e-4, "lr_drop": 15, "clip": 0.0, "dim": 512, "word_dim": 512,
        "units": 512, "dropout": 0.3, "pooled": "padded", "matching": 1.0, "classification": 0.0,
        "joint_norm": True, "norm_decay": 0.997, "weight_decay": 4e-5,  # nets/resnet_utils.py; nets' default decay
    },
    "dspe": {  # Wang et al. (2016), from memory, and the network of lwwang/Two_branch_network; batches as in mFSR
        "batch_size": 750, "captions_per_image": 2, "lr": 0.1, "lr_drop": 10, "lr_factor": 0.1, "optimiser": "sgd",
        "weight_decay": 5e-4, "hidden": (2048,), "dim": 512, "dropout": 0.5, "margin": 0.1, "hardest": 10,
        "image_weight": 2.0, "text_weight": 0.2,
    },
    "rrfnet": {  # models/Flickr30K of yuLiu24/RRF-Net: 6,500 steps, the rate drops after each 2,000
        "batch_size": 1500, "epochs": 67, "lr": 0.1, "lr_drop": 21, "lr_factor": 0.1, "optimiser": "sgd",
        "weight_decay": 5e-4, "bias_lr": 2.0, "clip": 0.0, "hidden": (2048,), "dim": 512, "dropout": 0.5, "steps": 3,
        "margin": 0.1, "hardest": 50, "image_to_text": 1.0, "text_structure": 0.5, "text_to_image": 2.0,
        "image_structure": 1.0,
    },
    "cmrsc": {  # script/tune_f30k_t-i-AVG_vsesc.sh and opts.py of HuiChen24/MM_SemanticConsistency
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 2.0, "margin": 0.2,
        "dim": 1024, "word_dim": 300, "min_count": 4, "smooth": 9.0, "pooling": "mean", "sharpness": 6.0,
        "normalisation": "clipped_l2norm", "slope": 0.1, "consistency": 1.0, "differences": "sum", "reduction": "sum",
        "negatives": "all", "warm_up": 0.0,
    },
    "pvse": {  # the command for MS-COCO in the README of yalesong/pvse, and option.py; the schedule as it acts
        "batch_size": 256, "epochs": 30, "lr": 2e-4, "lr_drop": 11, "lr_factor": 0.5, "weight_decay": 0.0, "clip": 2.0,
        "clip_by": "norm", "margin": 0.1, "reduction": "mean", "negatives": "all", "warm_up": 0.0, "word_dim": 300,
        "train_words": False, "dim": 1024, "heads": 2, "dropout": 0.0, "diversity": 0.1, "discrepancy": 0.01,
    },
    "dsve": {  # train.py, model.py and loss.py of technicolor-research/dsve-loc
        "batch_size": 160, "epochs": 60, "fixed_epochs": 2, "halvings": 5, "lr": 1e-3, "lr_drop": 1, "lr_factor": 0.5,
        "clip": 0.0, "weight_decay": 0.0, "margin": 0.2, "reduction": "sum", "negatives": "all", "warm_up": 0.0,
        "word_dim": 620, "train_words": False, "dim": 2400, "units": 2400, "extremes": 15, "cell": "sru", "layers": 4,
        "dropout": 0.5, "text_dropout": 0.25, "own": "lowered",
    },
    "gsmn": {  # the arguments for Flickr30K in the README of CrossmodalGroup/GSMN, train.py and graph_model.py
        "batch_size": 64, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 2.0, "margin": 0.2,
        "dim": 1024, "word_dim": 300, "min_count": 4, "smooth": 20.0, "slope": 0.1, "parts": 16, "kernels": 8,
        "graph_dim": 32, "propagation": "own", "text_graph": "dense", "reduction": "sum", "negatives": "all",
        "warm_up": 0.0,
    },
    "sgm": {  # its authors' program, read from a public index
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 2.0, "margin": 0.2,
        "warm_up": 0.0, "word_dim": 300, "dim": 1024, "units": 2048, "activation": "none", "relations": 1.0,
    },
    "dvsa": {  # Karpathy and Fei-Fei (2015), from memory; batches as in mFSR's tables
        "batch_size": 100, "margin": 1.0, "warm_up": 1.0, "negatives": "all", "reduction": "sum", "dim": 1000,
        "word_dim": 300, "train_words": False, "clip": 5.0, "clip_by": "value",
    },
    "mcnn": {  # Ma et al. (2015), from memory; batches as in mFSR's tables
        "batch_size": 150, "levels": ("word", "short", "long", "sentence"), "word_dim": 50, "dim": 256,
        "maps": (200, 300, 300), "joint": 400, "length": 30, "margin": 0.5,
    },
    "sco": {  # Huang et al. (2018), from memory; batches as in mFSR's tables
        "batch_size": 128, "concepts": 256, "dim": 1024, "generation": 1.0, "warm_up": 1.0,
    },
    "gxn": {  # Gu et al. (2018), from memory; batches as in mFSR's tables
        "batch_size": 128, "margin": 0.05, "image_size": 64, "objective": "self-critical", "beta": 0.5,
    },
    "contrastive": {  # Radford et al. (2021), section 2.5; Zhai et al. (2023), section 3.2; the rest is VSE++'s
        "loss": "infonce", "negatives": "all", "scale": None, "largest_scale": 100.0, "bias": -10.0, "batch_size": 128,
        "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "clip": 2.0, "weight_decay": 0.0, "dim": 1024,
        "word_dim": 300, "layers": 1, "image_unit": True, "image_views": "random", "image_flips": True,
    },
    "adapter": {  # clip_adapter.py of gaopengcuhk/CLIP-Adapter; the scale as in CLIP and SigLIP
        "head": "residual", "ratio": 0.2, "reduction_factor": 4, "loss": "infonce", "scale": None,
        "largest_scale": 100.0, "bias": -10.0,
    },
    # Retrieval by classes.
    "mcvs": {  # section 4.2 of the thesis
        "dim": 512, "batch_size": 128, "lr": 1e-3, "margins": (1.0, 1.0, 1.0), "gammas": (0.25, 0.25, 0.5),
        "attention": True, "terms": ("i", "s", "is"),
    },
    "rvs": {  # sections 3.3 and 4.2 of the thesis
        "dim": 512, "batch_size": 128, "lr": 1e-3, "margins": (1.0, 1.0, 1.0), "gammas": (0.25, 0.25, 0.5),
        "attention": True, "terms": ("i", "s", "is"),
    },
    "cvs_adversarial": {  # section 4.2 of the thesis, and eq. 2.5.3
        "dim": 512, "batch_size": 128, "lr": 1e-3, "margins": (1.0, 1.0, 1.0), "gammas": (0.25, 0.25, 0.5),
        "attention": True, "terms": ("i", "s", "is"), "aim": "printed",
    },
    "cbt": {  # PKU-ICST-MIPL/RCBT_TCSVT2020, the program of its successor
        "hidden": (3000, 1000), "dim": 2000, "batch_size": 200, "epochs": 10, "lr": 0.1, "lr_drop": 10,
        "optimiser": "plain_sgd", "weight_decay": 0.0, "clip": 0.0, "class_weight": 0.1,
    },
    "ccl": {  # PKU-ICST-MIPL/CCL_TMM2018: corr_ae.pbtxt, and examples/CCL for the second stage
        "hidden": (2048,), "dim": 1024, "reconstruction": 0.3, "distance": 0.7, "margin": 1.0, "batch_size": 80,
        "lr": 1e-4, "clip": 0.0,
    },
    "cmgan": {  # train.lua and scripts/train_pascal.sh of PKU-ICST-MIPL/CM-GANS_TOMM2019
        "units": 1024, "dim": 1024, "judge_units": 512, "batch_size": 64, "epochs": 2000, "lr": 1e-3, "lr_drop": 100,
        "lr_factor": 0.5, "beta": 0.5, "clip": 0.0, "weight_decay": 0.0, "gan_weight": 1.0, "generator_steps": 5,
        "sampling": "balanced",
    },
    "mcsm": {  # PKU-ICST-MIPL/MCSM_TIP2018 on Wikipedia
        "dim": 4096, "units": 256, "widths": (384, 512, 256), "dropout": 0.5, "batch_size": 40, "lr": 1e-4,
        "clip": 0.0, "weight_decay": 0.0, "margin": 0.5, "word_dim": 300, "train_words": False,
    },
    "ugach": {  # PKU-ICST-MIPL/UGACH_AAAI2018: UGACH-nus/train_128.py, and batches as in its pre-training
        "bits": 128, "hidden": (8192,), "neighbours": 5, "codes": "binary", "batch_size": 20, "epochs": 30,
        "generator_steps": 2, "optimiser": "sgd", "lr": 1e-2, "discriminator_lr": 0.1, "lr_factor": 0.9,
        "weight_decay": 0.01, "clip": 0.0,
    },
    "s2upg": {  # S2UPG.m of PKU-ICST-MIPL/S2UPG_TCSVT2016, which returns the second of its three rounds
        "standardise": True, "sparsity": 1000.0, "graph": 0.1, "classes_weight": 10.0, "neighbours": 100, "rounds": 2,
    },
    "corrae": {"distance": 0.2},  # Feng et al. (2014), from memory
    # Captions.
    "mori": {"clusters": 500},  # Mori et al. (1999), from memory
    "nic": {  # the options of ruotianluo/ImageCaptioning.pytorch, with the drops and the epochs of configs/fc.yml
        "word_dim": 512, "dim": 512, "dropout": 0.5, "epochs": 30, "lr": 4e-4, "lr_drop": 3, "lr_factor": 0.8,
        "first_moment": 0.9, "weight_decay": 0.0, "clip": 0.1, "clip_by": "value", "beam": 5, "longest": 20,
    },
    "scst": {  # Rennie et al. (2017), and configs/a2i2.yml of ruotianluo/ImageCaptioning.pytorch
        "word_dim": 512, "dim": 512, "attention_dim": 512, "dropout": 0.5, "epochs": 30, "lr": 5e-4, "lr_drop": 3,
        "lr_factor": 0.8, "first_moment": 0.9, "weight_decay": 0.0, "clip": 0.1, "clip_by": "value",
        "scheduled_every": 5, "scheduled_most": 0.25, "samples": 5, "baseline": "greedy", "beam": 5, "longest": 20,
    },
    "updown": {  # peteanderson80/Up-Down-Captioner for the widths, the options of ruotianluo's for the training
        "word_dim": 1000, "dim": 1000, "attention_dim": 512, "projected": 0, "dropout": 0.5, "epochs": 30, "lr": 4e-4,
        "lr_drop": 3, "lr_factor": 0.8, "first_moment": 0.9, "weight_decay": 0.0, "clip": 0.1, "clip_by": "value",
        "beam": 5, "longest": 20,
    },
    "updown_grid": {  # as `updown`
        "word_dim": 1000, "dim": 1000, "attention_dim": 512, "projected": 0, "dropout": 0.5, "epochs": 30, "lr": 4e-4,
        "lr_drop": 3, "lr_factor": 0.8, "first_moment": 0.9, "weight_decay": 0.0, "clip": 0.1, "clip_by": "value",
        "beam": 5, "longest": 20,
    },
    "sat": {  # train.py and caption.py of sgrvinod's tutorial; `penalty` as in section 4.2.1 of Xu et al. (2015)
        "word_dim": 512, "dim": 512, "attention_dim": 512, "dropout": 0.5, "batch_size": 32, "lr": 4e-4,
        "lr_factor": 0.8, "first_moment": 0.9, "weight_decay": 0.0, "clip": 5.0, "clip_by": "value", "stochastic": 1.0,
        "penalty": "sum", "attends": True, "scheduled_every": 0, "beam": 5,
    },
    "adaptive": {  # train.lua of jiasenlu/AdaptiveAttention: 20 images with five captions each
        "word_dim": 512, "dim": 512, "attention_dim": 512, "sentinel": True, "reads_image": True, "dropout": 0.5,
        "batch_size": 100, "epochs": 20, "lr": 4e-4, "lr_drop": 20, "first_moment": 0.8, "weight_decay": 0.0,
        "clip": 0.1, "clip_by": "value", "scheduled_every": 0,
    },
    "contrastive_captions": {  # cl_train_adaptiveattention.lua of doubledaibo/clcaption_nips2017
        "objective": "contrastive", "mismatched": 5, "odds": 1.0, "word_dim": 512, "dim": 512, "attention_dim": 512,
        "dropout": 0.5, "batch_size": 100, "epochs": 20, "lr": 4e-4, "lr_drop": 20, "first_moment": 0.8,
        "weight_decay": 0.0, "clip": 0.1, "clip_by": "value", "scheduled_every": 0,
        "mismatches": "similar",  # as the chapter says (Liu et al., 2020)
    },
    "twod": {  # train.lua of doubledaibo/2dcaption_eccv2018
        "cell": "rnn", "flat": False, "dim": 256, "word_dim": 4, "kernel": 3, "dropout": 0.5, "batch_size": 100,
        "epochs": 50, "lr": 4e-4, "first_moment": 0.8, "weight_decay": 0.0, "clip": 0.1, "clip_by": "value",
        "scheduled_every": 0,
    },
    "cgan": {  # trainGANPolicyFeatNoise.lua of doubledaibo/gancaption_iccv2017: batches of 16, four a step
        "noise": 100, "rollouts": 64, "generator_epochs": 2, "evaluator_epochs": 2, "word_dim": 512, "dim": 512,
        "dropout": 0.5, "batch_size": 64, "lr": 4e-4, "evaluator_lr": 4e-4, "adversarial_lr": 4e-4, "lr_factor": 1.0,
        "first_moment": 0.8, "weight_decay": 0.0, "clip": 5.0, "clip_by": "norm", "scheduled_every": 0,
    },
}  # fmt: skip

# What this project has chosen: the comments say what a paper or a program has instead.
OWN = {
    # Chosen here: not in the paper.
    "bimodal": {
        "batch_size": 128, "epochs": 30, "lr": 1e-3, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 2.0,
        "sampling": "shuffled", "standardise": True, "hidden": (256,), "dim": 128, "inverse_penalty": 0.1,
        "iterations": 300,
    },
    "uncsm": {
        "batch_size": 128, "contrastive_epochs": 10, "triplet_epochs": 20, "epochs": 20, "lr": 1e-3, "lr_drop": 15,
        "lr_factor": 0.1, "weight_decay": 0.0, "clip": 0.0, "sampling": "shuffled", "standardise": True,
        "hidden": (1024,), "dim": 512, "metric_units": 512, "margin": 1.0, "triplet_margin": 0.2,
    },
    "visualwords": {
        "context": "global", "dim": 64, "visual_dim": 64, "window": 2, "scenes": 25, "epochs": 5, "batch_size": 512,
        "lr": 5e-3, "min_count": 4, "frequent": 10,
    },
    "cca": {
        "standardise": True, "dim": 32, "components": 0, "regularisation": 0.0, "kernel": "linear", "width": 1.0,
        "landmarks": 2000,
    },
    "scm": {
        "standardise": True, "dim": 32, "components": 0, "regularisation": 0.1, "kernel": "linear", "width": 1.0,
        "landmarks": 2000, "inverse_penalty": 1.0, "iterations": 300,
    },
    "sm": {"standardise": True, "inverse_penalty": 0.01, "iterations": 300},
    "pls": {"standardise": True, "dim": 32, "form": "canonical"},
    "farhadi": {"neighbours": 30, "values": 40, "smoothing": 0.1, "edge": 0.3, "min_count": 1},
    "kulkarni": {"objects": 4, "smoothing": 0.1, "text": 1.0, "sentence": "template", "glued": 40, "min_count": 1},
    "vdr": {"objects": 4, "smoothing": 0.1, "min_count": 1},
    "mori": {"most": 100_000, "min_count": 4},
    "sg": {"expansion": "wordnet"},
    "corrae": {
        "batch_size": 128, "epochs": 30, "lr": 1e-3, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 2.0,
        "sampling": "shuffled", "standardise": True, "hidden": (1024,), "dim": 1024,
    },
    "mcvs": {
        "epochs": 60, "lr_drop": 40, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 0.0, "sampling": "shuffled",
        "standardise": True, "partner": "mean", "unit": False, "other_classes": "none", "triplets": "mean",
        "class_weight": 1.0, "triplet_weight": 1.0,
    },
    "rvs": {
        "epochs": 60, "lr_drop": 40, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 0.0, "sampling": "shuffled",
        "standardise": True, "partner": "mean", "unit": False, "other_classes": "none", "triplets": "mean",
        "class_weight": 1.0, "triplet_weight": 1.0, "reference": "image",
    },
    "cvs_adversarial": {
        "epochs": 60, "lr_drop": 40, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 0.0, "sampling": "shuffled",
        "standardise": True, "partner": "mean", "unit": False, "other_classes": "none", "triplets": "mean",
        "class_weight": 1.0, "triplet_weight": 1.0, "difference": 1.0, "adversary": 1.0, "moving": False,
        "hidden_layers": 1, "discriminator_lr": 1.0,
    },
    "dvsa": {
        "epochs": 30, "lr": 1e-3, "lr_drop": 15, "lr_factor": 0.1, "optimiser": "adam", "weight_decay": 0.0,
        "dropout": 0.5, "scale": 0.1,
    },
    "mcnn": {
        "epochs": 30, "lr": 1e-3, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 0.0, "dropout": 0.1,
        "train_words": True,
    },
    "sco": {
        "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 2.0, "margin": 0.2,
        "reduction": "sum", "negatives": "other_groups", "word_dim": 300, "stop_words": 30, "concept_epochs": 10,
    },
    "gxn": {
        "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 2.0, "dim": 1024,
        "word_dim": 300, "reduction": "sum", "negatives": "other_groups", "warm_up": 1.0, "low": 1.0, "caption": 1.0,
        "image": 1.0, "caption_epochs": 10, "image_epochs": 10, "channels": 64, "noise": 100, "condition_dim": 128,
        "gan_lr": 2e-4,
    },
    "sgm": {"reduction": "sum", "negatives": "all", "weight_decay": 0.0, "train_words": True, "phrase": 3},
    "dspe": {"epochs": 30, "clip": 0.0, "fisher_vectors": False},
    "rrfnet": {"fisher_vectors": False},
    "gsmn": {"window": 1, "weight_decay": 0.0, "ensemble": False},  # published rows average two networks
    "scacmr": {  # sizes and schedule are those of `acmr`
        "hidden": (2000,), "dim": 200, "batch_size": 64, "epochs": 200, "lr": 1e-4, "lr_drop": 200, "lr_factor": 0.1,
        "betas": (0.5, 0.999), "weight_decay": 0.0, "clip": 0.0, "sampling": "shuffled", "standardise": False,
        "unit": True, "label_weight": 1.0, "classifier": "trained", "triplet_weight": 0.0, "adversarial_weight": 0.1,
        "adversary": "linear", "steepness": 10.0, "within_weight": 1.0, "centre_weight": 1.0, "across_weight": 1.0,
        "similarity_weight": 1.0,
    },
    "adapter": {  # the papers adapt to classes and not to pairs; the hinges are those of VSE++
        "batch_size": 128, "epochs": 30, "lr": 2e-4, "lr_drop": 15, "lr_factor": 0.1, "weight_decay": 0.0, "clip": 2.0,
        "dim": 512, "margin": 0.2, "reduction": "sum", "negatives": "all", "warm_up": 0.0,
    },
    # Chosen here: the paper or the program has another value.
    "order_embeddings": {"epochs": 30, "lr_drop": 30, "min_count": 4},  # up to 100 epochs, and every word
    "vse0": {"image_unit": True, "unit_images": True},  # the latter as in the paper
    "pvse": {"min_count": 4},  # every word
    "cmpm": {"min_count": 4, "image_unit": True},  # the 12,000 commonest words, features as they are
    "cbt": {"inter_weight": 0.5, "output": "linear", "standardise": False, "sampling": "shuffled"},  # 0 and sigmoids
    "ccl": {  # stochastic gradient descent with a decay of .004, 20,000 steps, RBMs first
        "pretrain_epochs": 50, "epochs": 200, "lr_drop": 200, "optimiser": "adam", "weight_decay": 0.0,
        "standardise": True, "sampling": "shuffled",
    },
    "cmgan": {"standardise": False},  # by the test set, for its queries alone
    "mcsm": {  # kernels of 15, 9 and 7 words, pools of 5, 5 and 6, 10,000 steps, the best fusion of the test set
        "kernel": 3, "pool": 2, "epochs": 100, "lr_drop": 100, "rescale": True, "fusion": 0.5, "sampling": "shuffled",
    },
    "ugach": {  # up to 1,000 passes; the rate falls every 20,000 steps
        "pretrain_epochs": 100, "lr_drop": 30, "standardise": False, "sampling": "shuffled",
    },
    "jrl": {  # 1,000, 1, 1,000, 100 and 5 in PKU-ICST-MIPL/JRL_TCSVT2014, whose squared errors weigh 1 as here
        "sparsity": 1.0, "pairs": 0.1, "graph": 0.1, "neighbours": 10, "rounds": 5, "standardise": True,
    },
    "consensus": {"neighbours": 30, "min_count": 1},  # Devlin et al. (2015): 90, of whose captions 125 vote
    "nic": {  # 50 captions, scheduled sampling (fc.yml), words that occur at least six times
        "batch_size": 128, "scheduled_every": 0, "read_dropout": 0.0, "min_count": 4, "max_words": 82,
    },
    "scst": {"batch_size": 128, "min_count": 4, "max_words": 82},  # 50 captions, as above
    "updown": {  # 100 captions; 50 and scheduled sampling in ruotianluo's configs/updown/updown.yml
        "batch_size": 128, "scheduled_every": 0, "min_count": 4, "max_words": 82,
    },
    "updown_grid": {"batch_size": 128, "scheduled_every": 0, "min_count": 4, "max_words": 82},  # as `updown`
    "sat": {  # up to 120 epochs; the rate falls when BLEU has not risen for eight; captions of up to 50 words
        "epochs": 30, "lr_drop": 3, "longest": 20, "min_count": 4, "max_words": 82,
    },
    "adaptive": {"beam": 5, "longest": 20, "min_count": 4, "max_words": 82},  # a beam of 3, at most 18 words
    "contrastive_captions": {"beam": 5, "longest": 20, "min_count": 4, "max_words": 82},  # as `adaptive`
    "twod": {  # the rate falls from epoch 21 on, a beam of 3, at most 18 words
        "lr_drop": 50, "beam": 5, "longest": 20, "min_count": 4, "max_words": 82,
    },
    "cgan": {"epochs": 30, "beam": 5, "longest": 20, "min_count": 4},  # 100,000 adversarial iterations
}  # fmt: skip

# What the description of a setting says of the reading that is not its default.
OTHER_READINGS = {
    ("vsepp", "reduction"): "print the mean over the pairs",
    ("vsepp", "negatives"): "only pairs of other images",
    ("vse0", "unit_images"): "trains VSE0 with `--no_imgnorm`",
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

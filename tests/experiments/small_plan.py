"""A small params.yaml and paper, of which plans are made."""

TABLE = {
    "id": "t1",
    "title": "T",
    "source": "s",
    "dataset": "coco",
    "protocol": "p",
    "folds": 5,
    "columns": [],
    "rows": [],
}
PAPER = {"title": "t", "authors": "a", "venue": "v", "year": 2000, "tables": [TABLE]}
PARAMS = {
    "papers": ["one"],
    "seeds": [3, 4],
    "datasets": {
        "world": {"reader": "world", "title": "W", "models": {"scan": {"dim": 1, "epochs": 1, "lr": 0.5}}},
        "kinds": {
            "reader": "media_world",
            "title": "K",
            "relevance": "label",
            "inputs": {"text": "bag", "audio": "mfcc"},
        },
        "coco": {"reader": "karpathy", "title": "C", "folds": [1, 5], "annotations": "a.json", "images": "raw"},
        "media": {
            "reader": "xmedia",
            "title": "M",
            "root": "raw",
            "relevance": "label",
            "stages": [2, 3],
            "inputs": {"text": "bag"},
        },
    },
    "extractors": {
        "net": {"extractor": "image", "network": "resnet18", "weights": "seeded"},
        "boxes": {"extractor": "regions", "boxes": "grid", "network": "resnet18", "weights": "world"},
        "small": {"extractor": "pixels", "resize": 8, "crop": 8},
        "shown": {"extractor": "pixels", "resize": 32, "crop": 32},
        "bag": {"extractor": "text", "modality": "text", "kind": "bag_of_words"},
        "mfcc": {"extractor": "audio", "modality": "audio"},
    },
    "inputs": {"image": {"vector": "net", "regions": "boxes", "pixels": "small", "images": "shown"}},
    "models": {"scan": {"lr": 0.25, "sharpness": 5}},
    "scales": {"embedded": {"stand_ins": {"media": "kinds", "coco": "world"}}},
}
SCAN = {"model": "scan", "dataset": "coco"}

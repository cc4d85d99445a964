"""Opens a prepared data set as a model reads it: each modality by its form, and training pairs as indices."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crossmodal.core import registry
from crossmodal.core.errors import UserError
from crossmodal.core.files import read_parquet, sha256_bytes
from crossmodal.corpus import splits
from crossmodal.corpus.by_class import Classes, Labels
from crossmodal.corpus.corpus import Corpus
from crossmodal.corpus.forms import base, form
from crossmodal.corpus.inputs import Inputs
from crossmodal.features.engine.store import Features, open_features
from crossmodal.language.tokens import Vocabulary
from crossmodal.modalities import Relevance
from crossmodal.models.base import Form

log = logging.getLogger(__name__)

MIN_COUNT = 4  # occurrences that a word needs to be in the vocabulary, for models without a setting `min_count`


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of opening a data set, besides the modalities that the model reads."""

    relevance: Relevance = "group"  # whether items are relevant to each other by group or by label
    stages: Sequence[int] = ()  # sizes of the groups of classes of a subset `classesIofN` (`splits.class_groups`)
    second_form: Mapping[str, tuple[Form, str]] = field(default_factory=dict)  # modality to form and extractor
    further: Mapping[str, tuple[str, Form]] = field(default_factory=dict)  # `Model.further`
    vocabulary: Vocabulary | None = None  # a trained model's vocabulary; None builds it from the training items
    settings: Mapping[str, Any] = field(default_factory=dict)  # the model's settings, with the forms' `options`

    @classmethod
    def of(cls, **values: Any) -> Options:
        """Options from keywords, which are fields of this class or options of forms.

        Raises
        ------
        TypeError : a keyword that is neither.
        """
        options = {name: values.pop(name) for name in {f.name for f in fields(cls)} & values.keys()}
        allowed = {"min_count"}.union(*(form(name).options for name in registry.names("forms")))
        if odd := values.keys() - allowed:
            raise TypeError(f"{sorted(odd)[0]!r} is neither a field of Options nor an option of a form")
        return cls(**{**options, "settings": {**options.get("settings", {}), **values}})


@dataclass(frozen=True)
class _Rows:
    """The items of a data set under an annotated subset, from which each modality is opened."""

    folder: Path
    items: pd.DataFrame
    codes: dict[str, int]  # `group_id` to the code of the group
    labels: Labels | None
    split: pd.DataFrame
    settings: Mapping[str, Any]
    shared: dict[str, Any] = field(default_factory=dict)

    def source(
        self, modality: str, name: Form, features: Features | None, alike: Mapping[str, Features] | None = None
    ) -> base.Source:
        """The source from which a form opens a modality; `alike` are the arrays of all modalities read in this form."""
        rows = self.items[self.items.modality == modality]
        if rows.empty and form(name).of_items:
            raise UserError(f"{self.folder / 'items.parquet'}: holds no {modality} items, which the model reads")
        source = base.Source(
            form=form(name),
            folder=self.folder,
            modality=modality,
            settings=self.settings,
            items=rows,
            groups=rows.group_id.map(self.codes).to_numpy(dtype=np.int64),
            labels=self.labels,
            trained=self._trained(rows, modality),
            features=features,
            arrays=alike or {},
            shared=self.shared,
        )
        return replace(source, words=source.form.words(source))

    def _trained(self, rows: pd.DataFrame, modality: str) -> np.ndarray:
        """(N,) bool, whether the subset trains on each row; all training rows of a modality that it does not list."""
        column = "item_id" if "item_id" in self.split else splits.COLUMNS.get(modality)
        return (rows.partition == "train" if column is None else rows.item_id.isin(self.split[column])).to_numpy()


def load(
    folder: Path,
    split: str,
    reads: Mapping[str, Form],
    extractors: Mapping[str, str],
    options: Options | None = None,
    **keywords: Any,
) -> Corpus:
    """Open a prepared data set.

    Parameters
    ----------
    folder : the data set's folder, `data/DATASET`.
    split : name of a file in its `splits`.
    reads : modality to form, as the model declares them.
    extractors : modality to extractor.
    options : further options; they may be given as `keywords` instead (`Options.of`).

    Raises
    ------
    UserError : a missing, corrupted or truncated file, a modality without an extractor, or an unknown form.
    """
    options = options or Options.of(**keywords)
    items, selection = read_parquet(folder / "items.parquet"), read_parquet(folder / "splits" / f"{split}.parquet")
    fingerprint = {"items": _frame_hash(items), "split": _frame_hash(selection)}
    codes = {group: i for i, group in enumerate(dict.fromkeys(items.group_id))}
    arrays = {m: _array(folder, m, name, extractors.get(m)) for m, name in reads.items() if form(name).array(m)}
    second = {m: _array(folder, m, name, extractor) for m, (name, extractor) in options.second_form.items()}
    items = _without_skipped(items, [id_ for array in (*arrays.values(), *second.values()) for id_ in array.skipped])
    labels = Labels.of(items, split, options.stages) if options.relevance == "label" else None
    items = items if labels is None else labels.restricted(items)
    selection = selection if labels is not None else _present(selection, items)
    rows = _Rows(folder, items, codes, labels, selection, options.settings)
    alike = {name: {m: array for m, array in arrays.items() if reads[m] == name} for name in reads.values()}
    sources = {("reads", m): rows.source(m, name, arrays.get(m), alike[name]) for m, name in reads.items()}
    sources |= {
        ("second_form", m): rows.source(m, name, second[m], {m: second[m]})
        for m, (name, _) in options.second_form.items()
    }
    sources |= {("further", key): rows.source(m, name, arrays.get(m)) for key, (m, name) in options.further.items()}
    vocabulary = _vocabulary([*sources.values()], options, fingerprint)
    opened: dict[str, dict[str, Inputs]] = {"reads": {}, "second_form": {}, "further": {}}
    for (role, key), source in sources.items():
        inputs = source.form.open(replace(source, vocabulary=vocabulary))
        if inputs is not None:
            opened[role][key] = inputs
            if inputs.digest:
                fingerprint[f"second_form.{key}" if role == "second_form" else key] = inputs.digest
    read = {f"{m}.{extractors[m]}": features for m, features in arrays.items()}
    read |= {f"{m}.{options.second_form[m][1]}": features for m, features in second.items()}
    for key, features in read.items():
        fingerprint |= {key: features.manifest["sha256"], f"{key}.index": features.manifest["index_sha256"]}
    pairs, classes, bare = _training(opened["reads"], selection, labels)
    inputs = opened["reads"] | opened["further"]
    second_form = opened["second_form"]
    return Corpus(inputs, pairs, bare, vocabulary, fingerprint, classes, second_form=second_form, folder=folder)


def _array(folder: Path, modality: str, name: Form, extractor: str | None) -> Features:
    """The features of a modality, checked to have as many axes as the form reads."""
    if extractor is None:
        raise UserError(f"params.yaml: inputs: the model reads {modality} features, but no extractor is named for them")
    features = open_features(folder / "features" / f"{modality}.{extractor}")
    if features.array.ndim != form(name).axes:
        raise UserError(f"{features.path}: has shape {features.array.shape}; the model reads {form(name).holds}")
    return features


def _without_skipped(items: pd.DataFrame, skipped: list[str]) -> pd.DataFrame:
    """`items` without those without features, and without items whose group loses a modality (an image's captions)."""
    is_skipped = items.item_id.isin(skipped)
    if not is_skipped.any():
        return items
    kept = items[~is_skipped]
    lost = set(zip(items.modality[is_skipped], items.group_id[is_skipped], strict=True)) - set(
        zip(kept.modality, kept.group_id, strict=True)
    )
    kept = kept[~kept.group_id.isin({group for _, group in lost})]
    further = len(items) - len(kept) - is_skipped.sum()
    log.warning("%d items have no features (skipped as bad); %d more go with them", is_skipped.sum(), further)
    return kept


def _present(split: pd.DataFrame, items: pd.DataFrame) -> pd.DataFrame:
    """The pairs of a subset whose items are among `items`."""
    for column in splits.COLUMNS.values():
        split = split[split[column].isna() | split[column].isin(items.item_id)]
    return split


def _vocabulary(sources: Sequence[base.Source], options: Options, fingerprint: dict[str, str]) -> Vocabulary:
    """The vocabulary of the training items, over all forms with words; its hash is added to the fingerprint."""
    spoken = [source for source in sources if source.words is not None]
    vocabulary = options.vocabulary
    if vocabulary is None:
        read = (
            words for source in spoken for words, trained in zip(source.words, source.trained, strict=True) if trained
        )
        vocabulary = Vocabulary.build(read, options.settings.get("min_count", MIN_COUNT))
    if spoken:
        fingerprint["vocabulary"] = sha256_bytes("\n".join(vocabulary.words).encode())
    return vocabulary


def _training(
    inputs: dict[str, Inputs], split: pd.DataFrame, labels: Labels | None
) -> tuple[dict[str, np.ndarray], Classes | None, np.ndarray]:
    """The indices of what is trained on under a subset: pairs, items by class, and images without a caption."""
    bare = np.empty(0, dtype=np.int64)
    if labels is not None:
        rows = {
            m: np.flatnonzero(pd.Index(x.ids).isin(split.item_id)) if x.form.of_items else x.where("train")
            for m, x in inputs.items()
        }
        classes = Classes.of(labels, rows, inputs)
        return classes.paired(), classes, bare
    if "image" in inputs:
        bare = _places(inputs["image"], split.image_id[split.caption_id.isna()])
    return _pairs(inputs, split[split.caption_id.notna()]), None, bare


def _pairs(inputs: dict[str, Inputs], split: pd.DataFrame) -> dict[str, np.ndarray]:
    """Modality to (P,) indices of the training pairs that a subset lists.

    Modalities that the subset does not list are joined by group: each of their training items with each listed pair.
    """
    pairs = {m: _places(x, split[splits.COLUMNS[m]]) for m, x in inputs.items() if m in splits.COLUMNS}
    if pairs.keys() == inputs.keys():
        return pairs
    frames = [pd.DataFrame(pairs).drop_duplicates()] if pairs else []
    frames += [pd.DataFrame({m: x.where("train")}) for m, x in inputs.items() if m not in pairs]
    joined = None
    for frame in frames:
        first = frame.columns[0]
        frame["group"] = inputs[first].groups[frame[first]]
        joined = frame if joined is None else joined.merge(frame, on="group")
    return {m: joined[m].to_numpy(dtype=np.int64) for m in inputs}


def _places(inputs: Inputs, ids: pd.Series) -> np.ndarray:
    """The indices of the items with the given ids."""
    return pd.Series(np.arange(len(inputs.ids)), index=inputs.ids).loc[ids].to_numpy(dtype=np.int64)


def _frame_hash(frame: pd.DataFrame) -> str:
    """Hash of the content of a table, independent of the program that wrote its file."""
    return sha256_bytes(pd.util.hash_pandas_object(frame.astype("string"), index=False).to_numpy().tobytes())

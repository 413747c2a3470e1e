"""Weights by name, against a hub on loopback: what is downloaded, what is recorded, and every failure as one sentence."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket

import pytest

import zoo
from loopback_hub import COMMIT, Hub
from small_bert import SMALL
from zoo import checkpoints
from zoo.checkpoints import curated, hub, hub_cache
from zoo.checkpoints.bert_folder import save_folder

OTHER = "f" * 40
CARD = b"---\nlicense: apache-2.0\ntags: [tiny]\n---\n# Tiny\n"
CONFIG = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 10,
    "max_position_embeddings": 12,
    "type_vocab_size": 2,
}
WEIGHTS = bytes(range(256)) * 1000


@pytest.fixture
def files(tmp_path):
    """A repository with files that are not needed, too; its weights are no model."""
    folder = tmp_path / "repository"
    (folder / "onnx").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n")
    (folder / "README.md").write_bytes(CARD)
    for name in ("model.safetensors", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "onnx/config.json"):
        (folder / name).write_bytes(WEIGHTS)
    return folder


@pytest.fixture
def served(files, tmp_path, monkeypatch):
    """The hub, with the repository as acme/tiny."""
    hub = Hub()
    hub.add("acme/tiny", files)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in hub.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(checkpoints, "_expected", {})
    yield hub
    hub.close()


def blobs(tmp_path) -> list[str]:
    return sorted(f.name for f in (tmp_path / "home").rglob("blobs/*"))


def block(monkeypatch) -> None:
    def connect(*_):
        raise AssertionError("a request was made")

    monkeypatch.setattr(socket.socket, "connect", connect)


# --- Downloads --------------------------------------------------------------------------------------------------------


def test_a_name_is_downloaded_once_and_pinned(served, files, tmp_path, capsys):
    found = checkpoints.fetch("bert", "hf:acme/tiny")
    said = capsys.readouterr()
    name = f"hf:acme/tiny@{COMMIT}"
    assert said.out == f"Downloads {name}: 0.3 MB, licence apache-2.0, into {tmp_path / 'home/hub'}.\n"
    assert said.err == "", "a bar is for terminals"
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    assert found.record("hf:acme/tiny") == {
        "name": "hf:acme/tiny",
        "source": name,
        "licence": "apache-2.0",
        "sha256": {"model.safetensors": digest},
    }
    assert found.name == name
    assert {f.name for f in found.path.iterdir()} == {"config.json", "vocab.txt", "README.md", "model.safetensors"}
    assert (found.path / "model.safetensors").read_bytes() == WEIGHTS
    before = len(served.requests)
    assert checkpoints.fetch("bert", name) == found and len(served.requests) == before, "a commit needs no request"
    assert checkpoints.fetch("bert", "hf:acme/tiny@main") == found
    assert len(served.requests) == before + 1, "a branch needs one request"
    assert capsys.readouterr() == ("", "")


def test_a_branch_that_moved_is_downloaded_again(served, files, capsys):
    first = checkpoints.fetch("bert", "hf:acme/tiny", verbose=2)
    said = capsys.readouterr()
    assert said.out.startswith("Downloads hf:acme/tiny@") and said.err == "", "a line without a bar"
    (files / "model.safetensors").write_bytes(WEIGHTS[::-1])
    served.add("acme/tiny", files, OTHER)
    second = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    assert capsys.readouterr() == ("", "")
    assert (first.name, second.name) == (f"hf:acme/tiny@{COMMIT}", f"hf:acme/tiny@{OTHER}")
    assert first.sha256 != second.sha256
    assert checkpoints.fetch("bert", first.name) == first, "the first commit is still there"


def test_safetensors_are_preferred_to_pickles(served, files):
    (files / "model.safetensors").rename(files / "model-00001-of-00002.safetensors")
    (files / "model-00002-of-00002.safetensors").write_bytes(b"second")
    (files / "model.safetensors.index.json").write_text("{}")
    served.add("acme/tiny", files, OTHER)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    assert sorted(checkpoints.fetch("bert", "hf:acme/tiny").sha256) == shards
    for file in files.glob("model*"):
        file.unlink()
    served.add("acme/tiny", files, "e" * 40)
    assert [*checkpoints.fetch("bert", "hf:acme/tiny").sha256] == ["pytorch_model.bin"]
    (files / "pytorch_model.bin").unlink()
    served.add("acme/tiny", files, "d" * 40)
    with pytest.raises(
        zoo.UsageError,
        match=r"has no weights of a Hugging Face folder of BERT, DistilBERT or RoBERTa \(it has .*tf_model\.h5\)",
    ):
        checkpoints.fetch("bert", "hf:acme/tiny")


def test_a_cut_connection_resumes_at_the_same_byte(served, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    served.faults.cut = {"model.safetensors"}
    found = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    assert (found.path / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [head["range"] for _, path, head in served.requests if "range" in head and "safetensors" in path]
    assert ranges == [f"bytes={len(WEIGHTS) // 2}-"]


# --- Without a network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_makes_no_request(served, monkeypatch, variable, tmp_path):
    monkeypatch.setenv(variable, "1")
    block(monkeypatch)
    message = (
        r"^hf:acme/tiny@main is not complete in .*, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set\. "
        r"Call `zoo fetch hf:acme/tiny@main` on a machine with a network, copy the folder that it prints, and pass the"
    )
    with pytest.raises(zoo.UsageError, match=message):
        checkpoints.fetch("bert", "hf:acme/tiny")
    monkeypatch.undo()
    for name, value in served.environment(tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    online = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    before = len(served.requests)
    monkeypatch.setenv(variable, "1")
    block(monkeypatch)
    assert checkpoints.fetch("bert", "hf:acme/tiny") == online == checkpoints.fetch("bert", online.name)
    (online.path / "vocab.txt").unlink()
    with pytest.raises(zoo.UsageError, match="is not complete"):
        checkpoints.fetch("bert", "hf:acme/tiny")
    assert len(served.requests) == before


def test_a_cache_of_another_program_is_read_offline(served, monkeypatch):
    found = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    shutil.rmtree(hub_cache.repository_folder("acme/tiny") / "trees")
    from huggingface_hub import _tree_cache

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert checkpoints.fetch("bert", "hf:acme/tiny") == found


def test_a_hub_that_cannot_be_reached_is_replaced_by_the_cache(served, capsys, monkeypatch):
    found = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", dead := f"http://127.0.0.1:{free.getsockname()[1]}")
    assert checkpoints.fetch("bert", "hf:acme/tiny") == found
    assert capsys.readouterr().out == f"{dead} cannot be reached; {found.name} is used from the cache.\n"
    with pytest.raises(
        zoo.UsageError, match=rf"^hf:acme/other@main is not complete in .*, and {dead} cannot be reached \("
    ):
        checkpoints.fetch("bert", "hf:acme/other")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT", 0.2)
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert checkpoints.fetch("bert", "hf:acme/tiny") == found
    monkeypatch.setenv("HF_ENDPOINT", dead)
    with pytest.raises(zoo.UsageError, match=rf"^hf:acme/tiny@{OTHER} is not complete in .*, and {dead} cannot be"):
        checkpoints.fetch("bert", f"hf:acme/tiny@{OTHER}")


# --- Rejections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "electra"}, "the model_type 'electra'"),
        ({"model_type": "xlm-roberta"}, "the model_type 'xlm-roberta'"),
        ({"architectures": ["ElectraModel"]}, r"architectures=\['ElectraModel'\]"),
    ],
)
def test_other_architectures_are_rejected_before_their_weights(served, files, config, said):
    (files / "config.json").write_text(json.dumps(config))
    served.add("acme/other", files)
    for fetch, types in (
        (checkpoints.locate, "bert, distilbert, gpt2, roberta, vit"),
        (lambda name: checkpoints.fetch("bert_mlm", name), "bert, distilbert, roberta"),
        (lambda name: checkpoints.fetch("vit", name), "vit"),
    ):
        message = (
            rf"^hf:acme/other has {said}; this package reads {types}, so its weights were not downloaded\. Choose "
            r"another repository; `zoo list --pretrained` prints some\.$"
        )
        with pytest.raises(zoo.UsageError, match=message):
            fetch("hf:acme/other")
    assert {path.rpartition("/")[2] for path in served.asked("GET") if "resolve" in path} == {
        "config.json",
        "README.md",
    }


def test_sizes_that_no_model_has_are_rejected_before_the_weights(served, files):
    (files / "config.json").write_text(json.dumps({**CONFIG, "hidden_act": "mish"}))
    served.add("acme/other", files)
    with pytest.raises(zoo.UsageError, match="has hidden_act='mish', which is not supported"):
        checkpoints.fetch("bert", "hf:acme/other")
    assert not any("safetensors" in path for path in served.asked("GET", "HEAD"))


def test_missing_and_gated_repositories_are_rejected(served, tmp_path):
    served.faults.denied = {"acme/closed": (403, "GatedRepo"), "acme/broken": (404, "RepoNotFound")}
    cases = {
        "hf:acme/closed": r"^hf:acme/closed is gated: its owner gives access to users who accept its conditions \(status "
        rf"403: Access to acme/closed is restricted\)\. Accept them at {served.url}/acme/closed, then set HF_TOKEN",
        "hf:google-bert/bert-base-uncasd": r"has no repository google-bert/bert-base-uncasd, or it is private \(status 404: "
        r"Repository not found\)\. Correct the name, or .* Did you mean 'hf:google-bert/bert-base-uncased' or",
        "hf:acme/tiny@v2": r"/acme/tiny has no revision 'v2' \(status 404: Invalid rev id\)\. Pass hf:acme/tiny@REVISION",
    }
    for name, message in cases.items():
        with pytest.raises(zoo.UsageError, match=message):
            checkpoints.fetch("bert", name)
    assert not blobs(tmp_path)


def test_answers_of_other_servers_are_rejected(served, monkeypatch):
    monkeypatch.setattr("loopback_hub.json.dumps", lambda content: "<html>no hub</html>")
    with pytest.raises(
        zoo.UsageError, match=rf"^{served.url} does not answer as a Hugging Face Hub does \(.*\)\. Check HF_E"
    ):
        checkpoints.fetch("bert", "hf:acme/tiny")
    with pytest.raises(zoo.UsageError, match=r"^hf:acme/ti\.\.ny@main is not a valid name \(.*\)\. Correct it\.$"):
        checkpoints.fetch("bert", "hf:acme/ti..ny")


@pytest.mark.parametrize(
    "name", ["hf:", "hf:bert-base-uncased", "hf:a/b@", "hf:a/b/c", "hf:a/../b", "hf:a/b@../../x", "hf:a/b c"]
)
def test_invalid_names_are_rejected_without_a_request(served, name):
    with pytest.raises(
        zoo.UsageError, match=r"is not the name of a repository; expected hf:ORG/NAME or hf:ORG/NAME@REV"
    ):
        checkpoints.fetch("bert", name)
    assert not served.requests


def test_a_model_that_reads_no_repositories_rejects_the_name(served):
    with pytest.raises(
        zoo.UsageError, match=r"^Model 'vgg16' is not read from repositories; .* Pass a file .* or 'imagenet'\."
    ):
        checkpoints.fetch("vgg16", "hf:acme/tiny")
    assert not served.requests


def test_damaged_files_are_rejected_and_removed(served, tmp_path):
    for name in ("model.safetensors", "vocab.txt"):
        served.faults.changed = {name}
        with pytest.raises(
            zoo.UsageError,
            match=rf"^{name} of hf:acme/tiny@{COMMIT} is damaged: its hash is .*, expected .* It was removed;",
        ):
            checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
        served.faults.changed = set()
        found = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
        assert (found.path / "model.safetensors").read_bytes() == WEIGHTS
        shutil.rmtree(tmp_path / "home")


def test_a_disk_that_is_too_small_is_noticed_before_the_download(served, tmp_path):
    served.faults.sizes = {"model.safetensors": 10**18}
    message = rf"^hf:acme/tiny@{COMMIT} needs 1,000,000,000,000\.\d MB; the disk of .* MB left, so nothing was downl"
    with pytest.raises(zoo.UsageError, match=message):
        checkpoints.fetch("bert", "hf:acme/tiny")
    assert not any("safetensors" in path or "vocab" in path for path in served.asked("GET", "HEAD"))


def test_the_token_is_sent_to_the_hub_alone(served, monkeypatch, capfd, caplog):
    storage = Hub()
    storage.files, storage.branches, served.redirect = served.files, served.branches, storage.url
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    found = checkpoints.fetch("bert", "hf:acme/tiny")
    storage.close()
    sent = {head.get("authorization") for _, path, head in served.requests if "tiny" in path}
    assert sent == {"Bearer hf_secretsecret"}
    assert storage.requests and not any("authorization" in h for _, _, h in storage.requests)
    kept = [str(found), *capfd.readouterr(), caplog.text, *(p.read_text("latin-1") for p in found.path.rglob("*"))]
    assert not any("secretsecret" in text for text in kept)


def test_other_weights_than_recorded_are_rejected(served):
    found = checkpoints.fetch("bert", "hf:acme/tiny", verbose=0)
    checkpoints.expect(found.record("hf:acme/tiny"))
    assert checkpoints.fetch("bert", found.name) == found
    checkpoints.expect({**found.record("hf:acme/tiny"), "sha256": {"model.safetensors": "0" * 64}})
    with pytest.raises(
        zoo.UsageError, match=rf"^{found.name} has other weights than the run recorded: sha256 of model\.safe"
    ):
        checkpoints.fetch("bert", found.name)
    with pytest.raises(zoo.UsageError, match=r"^The section pretrained of the run is damaged: source is missing\. Put"):
        checkpoints.expect({"name": "hf:acme/tiny"})


def test_licences_are_read_from_the_card(served, files):
    snapshot = hub_cache.Snapshot("acme/tiny", COMMIT)
    snapshot.folder.mkdir(parents=True)
    for card, licence in (
        ("---\nlicense: [mit, apache-2.0]\n---", "mit, apache-2.0"),
        ("---\nlicense: other\nlicense_name: research\n---", "research"),
        ("---\nlicense: 'a\\x1bb'\n---", "a\\\\x1bb"),
        ('---\nlicense: "a\\u202eb"\n---', "a\\u202eb"),
        ("---\nlicense: [\n---", "unknown"),
        ("---\na: &a [x]\nlicense: [[*a, *a]]\n---", "unknown"),
        ("# No head", "unknown"),
    ):
        (snapshot.folder / "README.md").write_text(card, encoding="utf-8")
        assert snapshot.licence() == licence.replace("\\\\x1b", "\\x1b"), card


# --- Models -----------------------------------------------------------------------------------------------------------


def test_known_names_are_valid_and_name_models():
    for row in curated.pretrained():
        spec = zoo.get_spec(row.model)
        assert row.megabytes > 0 and row.purpose
        if row.name in spec.published:
            defaults = {name: parameter.default for name, parameter in spec.parameters.items()}
            assert spec.published[row.name](defaults).licence == row.licence
        else:
            assert hub.parse(row.name).revision == "main" and row.licence in ("apache-2.0", "mit")
            assert any(f.repository for f in checkpoints._formats(row.model)), row
    families = zoo.list_models(variants=False)
    offered = {(name, weights) for name in families for weights in zoo.get_spec(name).published}
    assert offered <= {(row.model, row.name) for row in curated.pretrained()}


def test_a_model_is_prepared_and_built_from_a_name(served, small, pieces, tmp_path):
    model = zoo.build("bert", vocab_size=len(pieces), num_classes=2, **SMALL)
    served.add("acme/real", save_folder(model, tmp_path / "real", vocabulary=pieces, labels=["a", "b"]))
    prepared = zoo.datasets.load("commands").prepare("bert", weights="hf:acme/real", load_classifier=False)
    name = f"hf:acme/real@{COMMIT}"
    assert prepared.arguments["weights"] == prepared.requested["weights"] == name
    assert prepared.arguments["vocab_size"] == len(pieces) and prepared.arguments["hidden_size"] == 8
    assert prepared.describe()["model"]["weights"] == name
    recorded = prepared.describe()["pretrained"]
    assert recorded["source"] == name and recorded["name"] == "hf:acme/real" and recorded["licence"] == "unknown"
    before = len(served.requests)
    with pytest.warns(UserWarning, match="not used: classifier"):
        built = prepared.build()
    assert len(served.requests) == before
    assert (built.get_weights()[0] == model.get_weights()[0]).all()
    prepared.interface.save(tmp_path / "interface")
    assert type(prepared.interface).load(tmp_path / "interface").pretrained == recorded
    assert checkpoints.build("bert", "hf:acme/real").output_shape == (None, 2)

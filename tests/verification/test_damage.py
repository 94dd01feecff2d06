"""Any field changed, removed, renamed, repeated or added; any file flipped or cut: a sentence."""

import copy
import json
import shutil

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from small_run import save_parameters, tiny_run

from overparam import InputError
from overparam.verification import verify
from overparam.verification.claim import read_claim, schema
from overparam.verification.refusal import RefusedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run")
    tiny_run().save(path)
    return path


@pytest.fixture
def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def content_of(run) -> dict:
    return json.loads(run.certificate().to_json())


@pytest.fixture
def check(folder, tmp_path):
    """Verifies a certificate's text against the folder; every refusal is in sentences."""

    def verify_text(text: str | bytes):
        path = tmp_path / "certificate.json"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        result = verify(path, folder)
        assert result.ok == (not result.reasons)
        for reason in result.reasons:
            assert isinstance(reason, str)
            assert "\n" not in reason
            assert "Traceback" not in reason
        return result

    return verify_text


def paths_of(value, path=()):
    """All paths to fields of nested objects."""
    for key, item in value.items():
        yield (*path, key)
        if isinstance(item, dict):
            yield from paths_of(item, (*path, key))


def parent_of(content, path):
    for key in path[:-1]:
        content = content[key]
    return content


CERTIFIED = content_of(tiny_run())
FIELDS = [p for p in paths_of(CERTIFIED) if p[0] != "versions"]
NUMBERS = [
    path
    for path in FIELDS
    if isinstance(parent_of(CERTIFIED, path)[path[-1]], int | float)
    and not isinstance(parent_of(CERTIFIED, path)[path[-1]], bool)
]


def named(path):
    return ".".join(path)


def test_the_untouched_one_passes(folder):
    assert verify(folder / "certificate.json").ok
    assert verify(folder / "certificate.json", folder).ok


def test_every_number_is_tried():
    assert len(NUMBERS) > 35
    assert {p[1] for p in NUMBERS if p[0] == "numbers"} == set(CERTIFIED["numbers"])


WEAKER = {  # true, and tied to no other number
    (f"numbers.{name}", 1 + 1e-3)
    for name in (
        *("distance_ratio", "kernel_drift", "relative_kernel_drift"),
        *("linearisation_distance", "linearisation_parameter_distance"),
        "existence_radius",
        "limit_distance",  # the ratio follows from an angle here, not from the two distances
    )
}


@pytest.mark.parametrize("path", NUMBERS, ids=named)
@pytest.mark.sample(6)
def test_a_number_off_by_one_in_a_thousand(check, path):
    """Stronger or weaker: a single number no longer fits the others, or is not borne out."""
    for factor in (1 - 1e-3, 1 + 1e-3):
        content = copy.deepcopy(CERTIFIED)
        parent_of(content, path)[path[-1]] *= factor
        assert check(json.dumps(content)).ok == ((named(path), factor) in WEAKER), factor


@pytest.mark.parametrize("path", NUMBERS, ids=named)
@pytest.mark.sample(5)
def test_a_number_that_is_none(check, path):
    before = parent_of(CERTIFIED, path)[path[-1]]
    for value in (0, -1, 1e300, None, True, "1", "NaN", "Infinity", 10**400):
        content = copy.deepcopy(CERTIFIED)
        parent_of(content, path)[path[-1]] = "@" if value in ("NaN", "Infinity") else value
        text = json.dumps(content).replace('"@"', str(value))
        same = not isinstance(value, bool | str) and before == value
        assert check(text).ok == same, value


@pytest.mark.parametrize("path", FIELDS, ids=named)
@pytest.mark.sample(30)
def test_a_field_removed_renamed_or_repeated(check, path):
    removed = copy.deepcopy(CERTIFIED)
    value = parent_of(removed, path).pop(path[-1])
    assert not check(json.dumps(removed)).ok
    parent_of(removed, path)[path[-1] + "_"] = value
    assert not check(json.dumps(removed)).ok
    repeated = copy.deepcopy(CERTIFIED)
    parent_of(repeated, path)["@"] = value
    text = json.dumps(repeated).replace('"@"', json.dumps(path[-1]))
    result = check(text)
    assert "twice" in result.reasons[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("why", "it surely holds"),
        ("why", {"code": "short"}),
        ("rigor", "proved"),
        ("format", 1),
        ("start", "elsewhere"),
        ("start", "initialisation"),
        ("extra", 1),
        ("remedies", {"residual": 1.0}),
        ("nodes", CERTIFIED["nodes"][::-1]),
        ("nodes", []),
        ("nodes", CERTIFIED["nodes"][:2]),
        ("versions", {"numpy": 2}),
        ("assumptions", []),
        ("assumptions", ["nothing"]),
        ("assumptions", CERTIFIED["assumptions"] * 2),
    ],
)
def test_words_and_structures(check, name, value):
    assert not check(json.dumps({**CERTIFIED, name: value})).ok


@pytest.mark.parametrize("name", [*CERTIFIED["problem"]])
@pytest.mark.sample(8)
def test_another_problem(check, name):
    content = copy.deepcopy(CERTIFIED)
    value = content["problem"][name]
    if isinstance(value, bool):
        value = not value
    elif isinstance(value, str):
        value = value[::-1]
    elif isinstance(value, list):
        value = [*value, 3]
    else:
        value += 1
    content["problem"][name] = value
    assert not check(json.dumps(content)).ok


def test_cut_short_anywhere(check):
    text = json.dumps(CERTIFIED)
    for end in range(0, len(text), 197):
        assert not check(text[:end]).ok
    for text in ("[]", "null", "3", "[" * 100_000, "\x00", '{"format": 3}'):
        assert not check(text).ok


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.sample(4)
def test_a_bit_flipped_in_the_certificate(check, folder, seed):
    """Refused, or what it says is the same (spaces, versions, weak hints)."""
    honest = (folder / "certificate.json").read_bytes()
    rng = np.random.default_rng(seed)
    data = bytearray(honest)
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    result = check(bytes(data))
    if result.ok:
        content, before = json.loads(bytes(data)), json.loads(honest)
        for harmless in ("versions", "nodes"):
            content.pop(harmless), before.pop(harmless)
        assert content.pop("numbers") == pytest.approx(before.pop("numbers"), rel=1e-5)
        assert content == before


@pytest.mark.parametrize("file", ["params.npz", "data.npz"])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.sample(3)
def test_a_bit_flipped_in_an_array_file(copied, file, seed):
    before = dict(np.load(copied / file))
    data = bytearray((copied / file).read_bytes())
    rng = np.random.default_rng(seed)
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    (copied / file).write_bytes(data)
    result = verify(copied / "certificate.json")
    if result.ok:  # a bit of the archive's bookkeeping: the arrays are the same
        after = np.load(copied / file)
        assert all(after[name].tobytes() == array.tobytes() for name, array in before.items())


@pytest.mark.parametrize("name", ["x", "y", "weights"])
@pytest.mark.parametrize("bit", [0, 20, 51, 62, 63])
@pytest.mark.sample(5)
def test_a_bit_flipped_in_the_data(copied, name, bit):
    arrays = dict(np.load(copied / "data.npz"))
    arrays[name].view(np.uint64).flat[1] ^= np.uint64(1 << bit)
    np.savez(copied / "data.npz", **arrays)
    assert not verify(copied / "certificate.json").ok


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("bit", [0, 40, 62])
@pytest.mark.sample(7)
def test_a_bit_flipped_in_the_parameters(copied, kind, layer, bit):
    run = tiny_run()
    params = tuple(tuple(np.array(a) for a in arrays) for arrays in run.params)
    params[kind][layer].view(np.uint64).flat[0] ^= np.uint64(1 << bit)
    save_parameters(copied, params, run.start)
    reason = verify(copied / "certificate.json").reasons[0]
    assert "params.npz does not hold" in reason or "not a finite number" in reason


def test_a_bit_flipped_in_the_centre(copied):
    run = tiny_run()
    start = tuple(tuple(np.array(a) for a in arrays) for arrays in run.start)
    start[0][1].view(np.uint32).flat[3] ^= np.uint32(1)
    save_parameters(copied, run.params, start)
    assert "centre" in verify(copied / "certificate.json").reasons[0]


@pytest.mark.parametrize("file", ["params.npz", "data.npz"])
def test_array_files_cut_short(copied, file):
    data = (copied / file).read_bytes()
    for end in (0, 1, 100, len(data) // 2, len(data) - 1):
        (copied / file).write_bytes(data[:end])
        assert file in verify(copied / "certificate.json").reasons[0]


@pytest.mark.parametrize("file", ["params.npz", "data.npz", "certificate.json"])
def test_missing_files_are_bad_input(copied, file):
    (copied / file).unlink()
    with pytest.raises(InputError, match=file):
        verify(copied / "certificate.json")


def test_arguments_that_do_not_fit():
    run = tiny_run()
    certificate = run.certificate()
    with pytest.raises(InputError, match="params are missing"):
        verify(certificate, run.problem)
    with pytest.raises(InputError, match="give the problem"):
        verify(certificate)
    with pytest.raises(InputError, match="precision"):
        verify(certificate, run.problem, run.params, precision=10)
    with pytest.raises(InputError, match="weights"):
        verify(certificate, run.problem, (run.params[0][:1], run.params[1]))


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(schema())
    with pytest.raises(RefusedError, match="schema"):
        read_claim("{}")

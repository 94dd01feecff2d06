"""Tables as they come: separators, no header, compressed, categories, data frames."""

import gzip
import types

import numpy as np
import polars as pl
import pytest

from overparam.data import load
from overparam.data.sources import read_table
from overparam.errors import InputError

TEXT = "size,colour,price\n1,red,2.5\n2,blue,3.5\n3,red,4.5\n4,green,5.5\n"
NUMBERS = [[1.0], [3.0]]


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("a.tsv", "a\tb\n1\t2.5\n3\t4.5\n", {}),
        ("a.TSV", "a\tb, in cm\n1\t2,5\n3\t4,5\n", {}),
        ("a.csv", "1;2,5\n3;4,5\n", {"header": False}),
        ("a.csv", "\n1,2.5\n3,4.5\n", {"header": False}),
        ("a.csv", "  1   2.5 \n  3   4.5\n", {"header": False, "separator": "space"}),
        ("a.csv", "a/b\n1/2.5\n3/4.5\n", {"separator": "/"}),
        ("a.csv", "a\tb\n1\t2.5\n3\t4.5\n", {"separator": "tab"}),
        ("a.csv", "a;b|c\n1;2.5\n3;4.5\n", {"separator": ";"}),
    ],
)
def test_what_separates_columns_is_told_or_given(tmp_path, name, text, options):
    table = read_table(write(tmp_path / name, text), **options)
    assert table.features.tolist() == NUMBERS
    assert table.target.values.tolist() == [[2.5], [4.5]]
    if not options.get("header", True):
        assert (table.feature_names, table.target.name) == (("column_1",), "column_2")


@pytest.mark.parametrize("name", ["a.csv.gz", "my.table.CSV.GZ", "a.tsv.gz"])
def test_compressed_tables(tmp_path, name):
    text = "a,b\n1,2.5\n3,4.5\n".replace(",", "\t" if "tsv" in name else ",")
    (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    assert read_table(tmp_path / name).features.tolist() == NUMBERS


def test_without_a_header_lines_are_counted_from_the_first(tmp_path):
    path = write(tmp_path / "a.csv", "1,2\n3,4\nx5,6\n")
    with pytest.raises(InputError, match="line 3, column 'column_1' holds 'x5'"):
        read_table(path, header=False)
    with pytest.raises(InputError, match="line 2 has 1 fields but the first line has 2"):
        read_table(write(tmp_path / "b.csv", "1,2\n3\n"), header=False)


def test_categories_become_columns_of_0_and_1(tmp_path):
    table = read_table(write(tmp_path / "a.csv", TEXT), one_hot=True)
    names = ("size", "colour=blue", "colour=green", "colour=red")
    assert table.feature_names == names
    expected = [[1, 0, 0, 1], [2, 1, 0, 0], [3, 0, 0, 1], [4, 0, 1, 0]]
    np.testing.assert_array_equal(table.features, expected)
    again = read_table(tmp_path / "a.csv", one_hot=["colour"])
    np.testing.assert_array_equal(again.features, expected)
    assert again.target.kind == "regression"


def test_numbers_are_categories_where_that_is_said(tmp_path):
    table = read_table(write(tmp_path / "a.csv", TEXT), one_hot=["size", "colour"])
    assert table.feature_names[:4] == ("size=1", "size=2", "size=3", "size=4")
    np.testing.assert_array_equal(table.features[:, :4], np.eye(4))


def test_an_enum_keeps_its_order():
    colours = pl.Series("colour", ["red", "blue", "red"], dtype=pl.Enum(["red", "blue", "green"]))
    frame = pl.DataFrame([colours, pl.Series("y", [1.5, 2.5, 3.5])])
    assert read_table(frame, one_hot=True).feature_names == ("colour=red", "colour=blue")


def test_categories_are_those_of_the_training_part(tmp_path):
    """A category that occurs in the test part only has no column: its row has none of them."""
    rows = "\n".join(f"{i},{'abc'[i % 3]},{i % 7}.5" for i in range(30))
    path = write(tmp_path / "a.csv", f"x,kind,y\n{rows}\n30,rare,1.5\n")
    found = {}
    for seed in range(20):
        data = load(path, one_hot=True, standardize="none", seed=seed)
        found[30 in data.test_rows] = data
    assert found[False].feature_names == ("x", "kind=a", "kind=b", "kind=c", "kind=rare")
    data = found[True]
    assert data.feature_names == ("x", "kind=a", "kind=b", "kind=c")
    (rare,) = np.flatnonzero(data.test_rows == 30)
    assert data.test.x[rare].tolist() == [30, 0, 0, 0]
    assert any("'kind' as 3" in note for note in data.notes)
    assert data.fitted_to(data.train_rows)[0] == "the categories"
    assert data.fitted_to(data.test_rows) == ()


def pandas_like(**columns):
    """What a frame of pandas has, for where it is not installed."""

    def column(values):
        array = np.array(values, object if any(v is None for v in values) else None)
        gone = types.SimpleNamespace(to_numpy=lambda: np.array([v is None for v in values]))
        return types.SimpleNamespace(to_numpy=lambda: array, isna=lambda: gone)

    class Frame(dict):
        columns = property(lambda self: list(self))

    return Frame({name: column(values) for name, values in columns.items()})


def test_data_frames(tmp_path):
    expected = read_table(write(tmp_path / "a.csv", TEXT), one_hot=True)
    columns = {"size": [1, 2, 3, 4], "colour": ["red", "blue", "red", "green"]}
    columns["price"] = [2.5, 3.5, 4.5, 5.5]
    for frame in (pl.DataFrame(columns), pandas_like(**columns)):
        found = read_table(frame, one_hot=True)
        assert found.feature_names == expected.feature_names
        np.testing.assert_array_equal(found.features, expected.features)
        np.testing.assert_array_equal(found.target.values, expected.target.values)
        assert load(frame, one_hot=True, samples=4, test_fraction=0).train.n == 4
    with pytest.raises(InputError, match="row 2, column 'size' is empty"):
        read_table(pandas_like(size=[1, None, 3], price=[2.5, 3.5, 4.5]))


def test_a_frame_of_pandas():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"size": [1, 2, None], "colour": ["u", "v", "u"], "price": [2.5, 3, 4]})
    with pytest.raises(InputError, match="row 3, column 'size' is nan"):
        read_table(frame, one_hot=True)
    frame = frame.assign(size=pd.array([3, 4, 5], "Int64"), colour=frame.colour.astype("category"))
    found = read_table(frame, one_hot=True)
    np.testing.assert_array_equal(found.features, [[3, 1, 0], [4, 0, 1], [5, 1, 0]])


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("a,b\n1,2\n", {"separator": "comma,"}, "separates no columns: give one character"),
        ("a,b\n1,2\n", {"separator": "x"}, "separates no columns"),
        ("a/b\n1/2\n", {}, "it needs features and a target .--separator says"),
        ("1.5,2\n3,4\n5,6\n", {}, "read it with --no-header"),
        (TEXT, {}, "column 'colour' holds text .*; encode it with --one-hot"),
        (TEXT, {"one_hot": ["color"]}, "no column 'color' of categories; it has 'colour'"),
        (TEXT.replace("blue", "NA"), {"one_hot": True}, r"line 3, .* is missing \('NA'\); fill"),
        (TEXT.replace("blue", " "), {"one_hot": True}, "line 3, column 'colour' is empty; fill"),
        (
            "name,y\n" + "".join(f"w{i},{i}.5\n" for i in range(30)),
            {"one_hot": True},
            "column 'name' holds 30 different texts in 30 rows, too many",
        ),
        ("a,a=u,y\nu,1,2\nv,2,3\nw,4,5\n", {"one_hot": True}, "would be called 'a=u'; rename"),
        ("a,y\n1,2\n3,4\nfive,6\n", {"one_hot": True}, "line 4, .* holds 'five', not a number"),
    ],
)
def test_bad_tables_are_one_line(tmp_path, text, options, says):
    with pytest.raises(InputError, match=says) as error:
        read_table(write(tmp_path / "a.csv", text), **options)
    assert "\n" not in str(error.value)


def test_bad_sources_are_one_line(tmp_path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n")[:-9])
    with pytest.raises(InputError, match="damaged or not compressed by gzip"):
        read_table(tmp_path / "a.csv.gz")
    write(tmp_path / "b.csv.gz", "a,b\n1,2\n")
    with pytest.raises(InputError, match="damaged or not compressed by gzip"):
        read_table(tmp_path / "b.csv.gz")
    with pytest.raises(InputError, match=r"unknown suffix '.txt.gz'; convert"):
        read_table(write(tmp_path / "a.txt.gz", "a"))
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)), y=np.arange(3.0))
    with pytest.raises(InputError, match="is no text file; leave separator and header out"):
        read_table(tmp_path / "a.npz", separator=";")
    with pytest.raises(InputError, match="the data are a ndarray"):
        read_table(np.ones((3, 2)))

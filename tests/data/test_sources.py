"""Reading tables: what is accepted, and what is said about the rest."""

import datetime
import io
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import datasets

from overparam.data.bundled import BUNDLED
from overparam.data.csv_file import read_csv
from overparam.data.sources import read_table
from overparam.errors import InputError


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def test_csv_with_quotes_spaces_exponents_and_byte_order_mark(tmp_path):
    header = '\ufeff height , "weight, kg",kind'
    rows = [' 1.5,"2e1", cat', "", '+.5 ,-3.0E-2, "cat"', "4,5.,dog "]
    text = "\r\n".join([header, *rows])
    table = read_table(write(tmp_path / "pets.csv", text))
    assert table.feature_names == ("height", "weight, kg")
    assert table.features.tolist() == [[1.5, 20.0], [0.5, -0.03], [4.0, 5.0]]
    assert (table.target.name, table.target.kind, table.target.classes) == (
        "kind",
        "classification",
        ("cat", "dog"),
    )
    assert table.target.values.tolist() == [0, 0, 1]
    assert table.rows.names([0, 1, 2]) == "lines 2, 4 and 5"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=20))
def test_every_double_is_read_back_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("doubles") / "d.csv"
    write(path, "a,b\n" + "\n".join(f"{v!r},{i}" for i, v in enumerate(values)))
    frame, _ = read_csv(path)
    assert frame["a"].cast(pl.Float64).to_list() == values


def test_quoted_newlines_do_not_disturb_line_numbers(tmp_path):
    path = write(tmp_path / "a.csv", 'x,"y\nz"\n1,"a\nb"\n2,c\n3,c\n')
    table = read_table(path)
    assert table.rows.numbers.tolist() == [3, 5, 6]
    assert table.target.classes == ("a\nb", "c")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_any_newline_convention(tmp_path, newline):
    text = newline.join(["a,b", "1,2.5", "3,4.5"])
    assert read_table(write(tmp_path / "a.csv", text)).features.tolist() == [[1.0], [3.0]]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_told_from_the_first_records(tmp_path, separator):
    lines = ['"a, b"|c|kind', "1|2.5|u", '"2"|4|"v, w"', "", "3|5.5|u"]
    text = "\n".join(line.replace("|", separator) for line in lines)
    table = read_table(write(tmp_path / "a.csv", text))
    assert table.feature_names == ("a, b", "c")
    assert table.features.tolist() == [[1.0, 2.5], [2.0, 4.0], [3.0, 5.5]]
    assert table.target.classes == ("u", "v, w")
    assert table.rows.numbers.tolist() == [2, 3, 5]


def test_decimal_commas_where_semicolons_separate(tmp_path):
    text = "x;note;y\n1,5;a, b;-,5e1\n-2;c;3,25\n"
    table = read_table(write(tmp_path / "a.csv", text), target="note", task="classification")
    assert table.features.tolist() == [[1.5, -5.0], [-2.0, 3.25]]
    assert table.target.classes == ("a, b", "c")


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1;2,5\n3;4,6\n",  # semicolons inside the cells of a table with commas
        "country,1990,1991\nu,1.5,2\nv,2.5,3\n",
        "sample,1100.5,1102.0,y\nu,.1,.2,1\nv,.2,.1,0\n",
        "0,1,2\n5,6,7\n8,9,1\n",
        "x,y\n1,x\n2,y\n",
    ],
)
def test_what_is_a_table_with_commas_and_names(tmp_path, text):
    frame, _ = read_csv(write(tmp_path / "a.csv", text))
    assert frame.columns == text.split("\n")[0].split(",")
    assert frame.height == 2


def test_any_column_can_be_the_target(tmp_path):
    path = write(tmp_path / "a.csv", "a,b,c\n1,2.5,3\n4,5.5,6\n7,8.5,9\n")
    table = read_table(path, "b")
    assert table.feature_names == ("a", "c")
    assert table.target.values.tolist() == [[2.5], [5.5], [8.5]]


def test_csv_and_parquet_agree(tmp_path):
    text = "a,b,label\n1,0.5,x\n2,1.5,y\n3,2.5,x\n"
    csv_path = write(tmp_path / "a.csv", text)
    frame = pl.read_csv(io.StringIO(text)).cast({"a": pl.Int8, "label": pl.Categorical})
    frame.write_parquet(tmp_path / "a[1].parquet")
    from_csv, from_parquet = read_table(csv_path), read_table(tmp_path / "a[1].parquet")
    np.testing.assert_array_equal(from_csv.features, from_parquet.features)
    np.testing.assert_array_equal(from_csv.target.values, from_parquet.target.values)
    assert from_csv.target.classes == from_parquet.target.classes
    assert (from_csv.rows.name(0), from_parquet.rows.name(0)) == ("line 2", "row 1")


def test_npz(tmp_path):
    x, y = np.arange(6.0).reshape(3, 2), np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])
    np.savez(tmp_path / "two.npz", x=x, y=y)
    np.savez(tmp_path / "one.npz", x=x.astype(np.float32), y=np.array(["b", "a", "a"]))
    two, one = read_table(tmp_path / "two.npz"), read_table(tmp_path / "one.npz", "y")
    assert two.target.kind == "regression"
    np.testing.assert_array_equal(two.target.values, y)
    assert one.target.classes == ("a", "b")
    assert one.target.values.tolist() == [1, 0, 0]
    assert one.feature_names == ("x1", "x2")


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_hold_what_scikit_learn_ships(name):
    bunch = getattr(datasets, f"load_{name}")(**({"scaled": False} if name == "diabetes" else {}))
    table = read_table(name)
    np.testing.assert_array_equal(table.features, bunch.data)
    np.testing.assert_array_equal(table.target.values.ravel(), bunch.target)
    expected = () if name == "diabetes" else tuple(str(c) for c in bunch.target_names)
    assert table.target.classes == expected
    assert table.feature_names == tuple(map(str, bunch.feature_names))


def test_a_bundled_set_is_read_without_importing_what_it_ships_with():
    script = (
        "import sys; from overparam.data.sources import read_table; read_table('iris'); "
        "sys.exit(any(name.split('.')[0] == 'sklearn' for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_parity_of_digits():
    table = read_table("digits", "parity")
    assert table.target.classes == ("odd", "even")
    np.testing.assert_array_equal(table.target.values == 1, datasets.load_digits().target % 2 == 0)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0, 1], "classification"),
        ([-1, 1, 1], "classification"),
        ([1, 2, 3, 1, 2, 3, 1], "classification"),
        ([1, 2, 3, 1, 2, 3], "regression"),  # three values for six rows
        ([*range(20)] * 3, "classification"),
        ([*range(21)] * 3, "regression"),
        ([0.5, 1.5] * 5, "regression"),
        (["1.0", "2.0"] * 5, "classification"),
        ([True, False], "classification"),
        (["yes", "no", "yes"], "classification"),
    ],
)
def test_what_counts_as_classes(tmp_path, values, kind):
    text = "x,y\n" + "\n".join(f"{i},{v}" for i, v in enumerate(values))
    assert read_table(write(tmp_path / "a.csv", text)).target.kind == kind


def test_the_task_can_be_forced(tmp_path):
    path = write(tmp_path / "a.csv", "x,y\n1,10\n2,20\n3,10\n4,2.5\n")
    assert read_table(path, task="classification").target.classes == ("2.5", "10", "20")
    assert read_table("digits", task="regression").target.values.shape == (1797, 1)


def csv(text, encoding="utf-8"):
    return lambda folder: write(folder / "a.csv", text, encoding)


def raw_bytes(name, data):
    def make(folder):
        (folder / name).write_bytes(data)
        return folder / name

    return make


def npz(**arrays):
    def make(folder):
        np.savez(folder / "a.npz", **arrays)
        return folder / "a.npz"

    return make


def parquet(cut=None, **columns):
    def make(folder):
        pl.DataFrame(columns).write_parquet(folder / "a.parquet")
        data = (folder / "a.parquet").read_bytes()
        (folder / "a.parquet").write_bytes(data[:cut])
        return folder / "a.parquet"

    return make


def existing_directory(folder):
    return folder


def neighbour(folder):
    write(folder / "housing.csv", "a,b\n1,2\n")
    return folder / "hosing.csv"


def npy_as_npz(folder):
    np.save(folder / "a.npy", np.zeros((3, 2)))
    return (folder / "a.npy").rename(folder / "a.npz")


def encrypted_npz(folder):
    np.savez(folder / "a.npz", x=X, y=np.arange(3))
    data = bytearray((folder / "a.npz").read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the flag in the archive's directory
    (folder / "a.npz").write_bytes(data)
    return folder / "a.npz"


RNG = np.random.default_rng(0)
GARBAGE = RNG.bytes(500)
X = np.arange(6.0).reshape(3, 2)
DAY = datetime.date(2020, 1, 1)
MANY = "\n".join(f"{i},w{i % 30}" for i in range(90))

BAD = {
    "missing file": (lambda folder: "digit", r"no file digit; did you mean 'digits'\? Bundled"),
    "near a neighbour": (neighbour, "did you mean 'housing.csv'"),
    "directory": (existing_directory, "is a directory"),
    "unknown suffix": (raw_bytes("a.xlsx", b"1"), "unknown suffix '.xlsx'; convert"),
    "empty": (csv(""), "is empty"),
    "blank": (csv("  \n \n"), "is empty"),
    "header only": (csv("a,b\n"), "no rows"),
    "one row": (csv("a,b\n1,2\n"), "has 1 row; it needs at least two"),
    "one column": (csv("a\n1\n2\n"), "1 column; it needs features and a target"),
    "blank first line": (csv("\na,b\n1,2\n"), "line 1 of .* is blank"),
    "no header": (csv("1.5,2\n3,4\n5,6\n"), "line 1 of .* holds data"),
    "unnamed column": (csv(",a,b\n0,1,2\n1,3,4\n"), "column 1 of .* has no name"),
    "no header, but a text": (
        csv("M,.4,.3,15\nM,.3,.2,7\nF,.5,.4,9\n"),
        r"data \('M', '.4', '.3', ",
    ),
    "no header, all text": (csv("u,v,u\nu,v,v\nw,w,u\n"), "line 1 of .* holds data"),
    "no header, decimal commas": (csv("1,5;2,5\n0,5;1,5\n2,5;3,5\n"), r"data \('1,5', '2,5'\)"),
    "commas and points": (csv("a;b\n1,5;2\n3;4.5\n"), "'?1,5'? in line 2 and '?4.5'? in line 3"),
    "short line of semicolons": (csv("a;b\n1;2\n3\n"), "line 3 has 1 .* that hold semicolons"),
    "thousands": (csv('a,b\n"1,234",2\n"5,678",4\n'), "holds '1,234', a number with a comma"),
    "missing entries": (
        csv("a,b\n1,2\n?,3\nNA,4\n"),
        r"line 3, .* is missing .*, and in 1 more line;",
    ),
    "same name twice": (csv("a,b,a\n1,2,3\n4,5,6\n"), "two columns named 'a'"),
    "short line": (csv("a,b\n1,2\n\n3\n"), "line 4 has 1 fields but the header has 2"),
    "long line": (csv("a,b\n1,2\n3,4,5\n"), "line 3 has 3 fields"),
    "open quote": (csv('a,b\n1,2\n"3,4\n'), "check its quotes"),
    "binary": (raw_bytes("a.csv", GARBAGE), "not UTF-8 text"),
    "zeros": (raw_bytes("a.csv", bytes(100)), "binary data"),
    "latin-1": (csv("a,b\n1,é\n2,e\n", "latin-1"), "not UTF-8 text"),
    "utf-16": (csv("a,b\n1,2\n3,4\n", "utf-16"), "not UTF-8 text"),
    "empty cell": (csv("a,b\n1,2\n,4\n5,6\n"), "line 3, column 'a' is empty"),
    "cell of spaces": (csv("a,b\n1,2\n  ,4\n5,6\n"), "line 3, column 'a' is empty"),
    "empty target": (csv("a,b\n1,2\n3,\n5,6\n"), "line 3, column 'b' is empty"),
    "empty column": (csv("a,b\n,2\n,4\n"), "line 2, column 'a' is empty"),
    "not a number": (csv("a,b\n1,2\n3,4\n?,6\n"), r"line 4, column 'a' is missing \('\?'\); fill"),
    "not quite a number": (
        csv("a,b\n1,2\n3,4\n5x,6\n"),
        "line 4, column 'a' holds '5x', not a number",
    ),
    "nan": (csv("a,b\n1,2\nnan,4\n"), "line 3, column 'a' is nan"),
    "infinite": (csv("a,b\n1,2\n-inf,4\n"), "line 3, column 'a' is -inf"),
    "overflow": (csv("a,b\n1,2\n1e999,4\n"), "line 3, column 'a' is inf"),
    "odd target cell": (csv("a,b\n1,2.5\n2,NA\n3,4.5\n"), "line 3, column 'b' is missing"),
    "text feature": (csv("a,b\nred,2\nblue,4\n"), r"column 'a' holds text \('red'\); encode"),
    "constant target": (csv("a,b\n1,2\n3,2\n"), "target 'b' is constant"),
    "constant text": (csv("a,b\n1,u\n3,u\n"), "target 'b' is constant"),
    "many texts": (csv("a,b\n" + MANY), "30 different texts, more than 20 classes"),
    "a class a row": (csv("a,b\n1,u\n2,v\n3,w\n"), "every row has its own class"),
    "corrupt parquet": (raw_bytes("a.parquet", GARBAGE), "not a readable Parquet"),
    "truncated parquet": (parquet(a=[1, 2], b=[3, 4], cut=-60), "not a readable Parquet"),
    "null in parquet": (parquet(a=[1, None, 2], b=[3, 4, 5]), "row 2, column 'a' is empty"),
    "nan in parquet": (parquet(a=[1.0, float("nan")], b=[3, 4]), "row 2, column 'a' is nan"),
    "date in parquet": (parquet(a=[DAY, DAY], b=[3, 4]), "column 'a' has type Date"),
    "list in parquet": (parquet(a=[[1], [2]], b=[3, 4]), "column 'a' has type List"),
    "parquet without rows": (parquet(a=[], b=[]), "has 0 rows"),
    "corrupt npz": (raw_bytes("a.npz", GARBAGE), "damaged or no .npz file"),
    "truncated npz": (raw_bytes("a.npz", b"PK\x03\x04" + GARBAGE), "damaged or no .npz file"),
    "encrypted npz": (encrypted_npz, "damaged or no .npz file"),
    "npy named npz": (npy_as_npz, "damaged or no .npz file"),
    "pickled npz": (npz(x=np.array([[{}], [1]]), y=np.arange(2)), "pickled objects"),
    "no x": (npz(z=X, y=np.arange(3)), r"no array x \(it has z, y\)"),
    "no y": (npz(x=X), "no array y"),
    "complex x": (npz(x=X + 1j, y=np.arange(3)), "x in .* is complex"),
    "complex y": (npz(x=X, y=np.arange(3) * 1j), "y in .* is complex"),
    "nan in npz": (npz(x=X * np.nan, y=np.arange(3)), "x in .* is nan in row 1, column 1"),
    "text in npz": (npz(x=np.array([["a"], ["b"]]), y=np.arange(2)), "text 'a' in row 1, column 1"),
    "1-d x": (npz(x=np.arange(3), y=np.arange(3)), r"shape \(3,\); .* x\[:, None\]"),
    "images": (npz(x=np.zeros((3, 2, 2)), y=np.arange(3)), r"x.reshape\(len\(x\), -1\)"),
    "no features": (npz(x=np.zeros((3, 0)), y=np.arange(3)), "no columns"),
    "3-d y": (npz(x=X, y=np.zeros((3, 1, 1))), "y in .* has shape"),
    "lengths": (npz(x=X, y=np.arange(4)), "y in .* has 4 rows but x has 3"),
    "one row npz": (npz(x=X[:1], y=np.arange(1)), "has 1 row"),
    "constant output": (npz(x=X, y=X * [1, 0]), "column 2 of y in .* is constant"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_one_line(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as caught:
        read_table(make(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("diabetes", {"target": "sexx"}, "no column 'sexx' for the target; it has 'sex'"),
        ("iris", {"target": "zzzz"}, "it has 'sepal length .*, 'target'$"),
        ("iris", {"target": "parity"}, "no column 'parity'"),
        ("iris", {"task": "regression"}, "column 'target' holds text"),
        ("iris", {"task": "ranking"}, "unknown task 'ranking': choose one of auto"),
        (npz(x=X, y=X), {"task": "classification"}, "y in .* has 2 columns"),
        (npz(x=X, y=X), {"target": "z"}, "no target 'z'"),
    ],
)
def test_bad_requests_are_refused_in_one_line(tmp_path, source, options, message):
    with pytest.raises(InputError, match=message) as caught:
        read_table(source if isinstance(source, str) else source(tmp_path), **options)
    assert "\n" not in str(caught.value)

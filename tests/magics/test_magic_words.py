"""A line in words, and what the words stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_magics.api.errors import OptionError
from maas_magics.magics.options import Command, HelpAsked, MagicOption, commas, literal, pair, real, text, whole
from maas_magics.magics.train import _validation
from maas_magics.magics.words import Names, Quoted, column_names, split

DF = pd.DataFrame({"a": [1, 2], "b c": [3, 4]})
SPACE = {
    "folder": Path("/models/bert"),
    "df": DF,
    "n": 7,
    "x": 0.5,
    "half": 2.5,
    "yes": True,
    "word": "a word",
    "X": np.zeros((3, 2)),
    "fn": max,
    "l": [1, 2],
}
NAMES = Names(SPACE)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("  m   --data df ", ["m", "--data", "df"]),
        ("m df;", ["m", "df"]),
        ("m\tdf", ["m", "df"]),
        ('m --target "two words"', ["m", "--target", "two words"]),
        ("m --target 'it is \"so\"'", ["m", "--target", 'it is "so"']),
        ("m df[['a', 'b c']] -b", ["m", "df[['a', 'b c']]", "-b"]),
        ("m df[df['b c'] > 3]", ["m", "df[df['b c'] > 3]"]),
        ('m {"a": 1, "b": [2, 3]}', ["m", '{"a": 1, "b": [2, 3]}']),
        ("m f(x, y) g( a )", ["m", "f(x, y)", "g( a )"]),
        ("m ''", ["m", ""]),
        ('m "(" x', ["m", "(", "x"]),
        ("m 'a' 'b'", ["m", "a", "b"]),
        ("m 'a'+'b'", ["m", "'a'+'b'"]),
        ("m $x ${y} 100% a{b}c", ["m", "$x", "${y}", "100%", "a{b}c"]),
        ("m ü 模型 💡", ["m", "ü", "模型", "💡"]),
        ('m df  # what it\'s about: (see "below"', ["m", "df"]),
        ("m df; # silent", ["m", "df"]),
        ("# nothing else", []),
        ("m df.head()# close behind", ["m", "df.head()"]),
        ("m '#' \"a # b\" # c", ["m", "#", "a # b"]),
        ("m {d['#']} df['# #'] # c", ["m", "{d['#']}", "df['# #']"]),
        ("m s3://bucket/a#b a#b", ["m", "s3://bucket/a#b", "a#b"]),
        (r'm "say \"so\"" ' + r"'it\'s'", ["m", 'say "so"', "it's"]),
        (r'm "C:\new\table.csv" "a\\b"', ["m", r"C:\new\table.csv", r"a\b"]),
        (r'm "C:\rows\" x  # c', ["m", "C:\\rows\\", "x"]),
        (r'm df["a\"b"]', ["m", r'df["a\"b"]']),
        ("m \"{n} $n\" '{n}'", ["m", "{n} $n", "{n}"]),
    ],
)
def test_split(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize(("line", "hint"), [("m 'a", "Close them with '"), ("m df[1", "Close them with ]"),
                                            ("m f({", "Close them with }"), ('m "it\'s', 'Close them with "')])  # fmt: skip
def test_an_open_quote_or_bracket_is_told(line: str, hint: str) -> None:
    with pytest.raises(OptionError, match="The line ends inside") as caught:
        split(line)
    assert caught.value.hint == hint


@given(st.text())
def test_no_line_at_all_breaks_it(line: str) -> None:
    try:
        words = split(line)
    except OptionError:
        return
    assert all(isinstance(word, str) for word in words)


@given(st.lists(st.text(st.characters(exclude_characters="\"'()[]{};", exclude_categories=["Cs"]), min_size=1)))
def test_quoted_words_come_through(words: list[str]) -> None:
    assert split(" ".join('"' + word.replace("\\", "\\\\") + '"' for word in words)) == words


@pytest.mark.parametrize("quote", ["'", '"'])
@given(words=st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_is_escaped_comes_through_whatever_it_is(quote: str, words: list[str]) -> None:
    """Brackets, braces, hashes, semicolons, the other quotes: in quotes each is itself, and a text."""
    escaped = [word.replace("\\", "\\\\").replace(quote, "\\" + quote) for word in words]
    found = split(" ".join(f"{quote}{word}{quote}" for word in escaped) + "  # it's a comment")
    assert found == words and all(isinstance(word, Quoted) for word in found)


@pytest.mark.parametrize(
    ("word", "value"),
    [("$n", "7"), ("{n + 1}", "8"), ("{x}", "0.5"), ("$word", "a word"), ("$df", "df"), ("plain", "plain"),
     ("{'a': 1}", "{'a': 1}"), ("{", "{"), ("{}", "{}"), ("{1, 2}", "{1, 2}"), ("$", "$"), ("$5", "$5"), ("a$n", "a$n"),
     ("{no python}", "{no python}"), ("hf:{folder}", "hf:/models/bert"), ("hf:$folder", "hf:/models/bert"),
     ("hf:{word}", "hf:a word"), ("{folder}", "/models/bert"), ("{folder}/key", "/models/bert/key"),
     ("{folder / 'sub'}/key", "/models/bert/sub/key"), ("{n}/key", "{n}/key"), ("hf:{n}", "hf:{n}"), ("hf:folder", "hf:folder"), ("a:{'b': 1}", "a:{'b': 1}")],
)  # fmt: skip
def test_expand(word: str, value: str) -> None:
    assert NAMES.expand(word) == value


@pytest.mark.parametrize(
    ("word", "told"),
    [("$dg", "There is no variable 'dg'"), ("{nobody}", "There is no variable 'nobody'"),
     ("{1/0}", "cannot be evaluated: ZeroDivisionError")],
)  # fmt: skip
def test_what_cannot_be_expanded_is_told(word: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        NAMES.expand(word)


def test_data_is_a_variable_an_expression_or_a_path(tmp_path: Path) -> None:
    assert NAMES.data("df") is DF
    assert NAMES.data("df.head(1)").shape == (1, 2)
    assert NAMES.data("df[df['b c'] > 3]").shape == (1, 2)
    assert NAMES.data("{'a': [1, 2]}") == {"a": [1, 2]}
    for path in ("s3://bucket/x", "rows.csv", "ROWS.CSV", "a/b.parquet", str(tmp_path)):
        assert NAMES.data(path) == path
    with pytest.raises(OptionError, match="There is no variable 'dff'") as caught:
        NAMES.data("dff")
    assert caught.value.hint == "Did you mean 'df'?"


@pytest.mark.parametrize(
    ("word", "kind", "value"),
    [("3", int, 3), ("n", int, 7), ("1e-3", float, 0.001), ("x", float, 0.5), ("n", float, 7.0)],
)
def test_numbers(word: str, kind: Any, value: float) -> None:
    assert NAMES.number(word, kind) == value


@pytest.mark.parametrize("word", ["3.5", "half", "yes", "word", "df", "1e400", "ten", "", "l"])
def test_what_is_no_whole_number(word: str) -> None:
    with pytest.raises(OptionError, match="is not a whole number"):
        NAMES.number(word, int)


def test_a_target_is_a_column_several_or_an_array() -> None:
    assert NAMES.target("a", DF) == "a" and NAMES.target("b c", DF) == "b c"
    assert NAMES.target("a,b c", DF) == ("a", "b c")
    assert NAMES.target("X", DF) is SPACE["X"]
    assert NAMES.target("X[:, 0]", DF).shape == (3,)
    assert NAMES.target("df.a.values", None).tolist() == [1, 2]
    assert NAMES.target("missing", DF) == "missing" and NAMES.target("a.b", DF) == "a.b"
    assert NAMES.target("a,missing", DF) == ("a", "missing")


@pytest.mark.parametrize(
    ("data", "columns"),
    [(DF, ["a", "b c"]), ({"a": [1]}, ["a"]), (np.zeros(3), []), (pd.DataFrame, []), (None, []), ("abc", [])],
)
def test_column_names(data: Any, columns: list[str]) -> None:
    assert column_names(data) == columns


@pytest.mark.parametrize(
    ("word", "value"),
    [("3", 3), ("256,128", (256, 128)), ("[1, 2]", [1, 2]), ("relu", "relu"), ("true", True), ("None", None),
     ("__import__('os')", "__import__('os')")],
)  # fmt: skip
def test_literals_are_never_run(word: str, value: Any) -> None:
    assert literal(word) == value


# --- options ---

COMMAND = Command(
    "cook",
    "Cook.",
    (
        MagicOption(("name",), "dish", metavar="NAME"),
        MagicOption(("extra",), "more", many="?", metavar="EXTRA"),
        MagicOption(("--data", "-d"), "what", Names.data, "DATA", "+", required=True),
        MagicOption(("--times", "-t"), "how often", whole, "N"),
        MagicOption(("--heat",), "how hot", real, "H"),
        MagicOption(("--set",), "settings", pair, "KEY=VALUE", "+"),
        MagicOption(("--how",), "manner", choices=("fast", "slow"), metavar="HOW"),
        MagicOption(("--with",), "names", commas, "NAMES"),
        MagicOption(("--note",), "text", text, "TEXT"),
        MagicOption(("--quick", "-q"), "hurry", switch=True),
    ),
    example="%cook soup --data pot",
)


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("soup -d n", {"name": "soup", "data": [7]}),
        ("-d n l -q soup", {"name": "soup", "data": [7, [1, 2]], "quick": True}),
        ("soup --data n x", {"name": "soup", "data": [7, 0.5]}),
        ('soup -d n --note="a \'b\' \\"c\\" "  # --quick', {"name": "soup", "data": [7], "note": "a 'b' \"c\" "}),
        ('"--help" -d n --note "-q"', {"name": "--help", "data": [7], "note": "-q"}),
        ("soup -d n --note {'--quick ' + word}", {"name": "soup", "data": [7], "note": "--quick a word"}),
        ("soup -d n --how 'slow' -t '3'", {"name": "soup", "data": [7], "how": "slow", "times": 3}),
        ("soup more -d n", {"name": "soup", "extra": "more", "data": [7]}),
        ("soup -q more -d n", {"name": "soup", "extra": "more", "data": [7], "quick": True}),
        ("soup --heat -0.5 -t n -d n", {"name": "soup", "heat": -0.5, "times": 7, "data": [7]}),
        ("soup --heat=1e-3 -d n", {"name": "soup", "heat": 0.001, "data": [7]}),
        (
            "soup -d n --set a=1,2 b=relu c=n",
            {"name": "soup", "data": [7], "set": [("a", (1, 2)), ("b", "relu"), ("c", 7)]},
        ),
        ("soup -d n --with auc,fn", {"name": "soup", "data": [7], "with": ("auc", max)}),
        ('soup -d n --note "100% {x} $n"', {"name": "soup", "data": [7], "note": "100% {x} $n"}),
        ("soup -d n --how slow", {"name": "soup", "data": [7], "how": "slow"}),
    ],
)
def test_parse(line: str, values: dict[str, Any]) -> None:
    assert COMMAND.parse(line, NAMES) == values


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("soup -d n --tim 3", "%cook has no option --tim.", "Did you mean '--times'?"),
        ("soup -d n --Times 3", "%cook has no option --Times.", "Did you mean '--times'?"),
        ("soup -d n -x", "%cook has no option -x", "%cook NAME"),
        ("soup --data n --data x", "--data is given twice", "Give it once, with all its values: --data DATA …"),
        ("soup -d n --data x", "--data is given twice", "once"),
        ("soup -d n -t 1 --times=1", "--times is given twice", "Give it once."),
        ("soup -d n -q --quick", "--quick is given twice", "once"),
        ("soup -d 'n'", "--data: 'n' is a text", "Without quotes it is the variable: n"),
        ("soup -d n --tiems 3", "%cook has no option --tiems.", "Did you mean '--times'?"),
        ("soup -d n --pretrained", "%cook has no option --pretrained.", "%cook --help lists them."),
        ("soup a b -d n", "what this is for: b", "%cook NAME"),
        ("", "%cook needs NAME.", "%cook NAME --data DATA [EXTRA] [options]"),
        ("soup", "%cook needs --data DATA.", "%cook NAME --data DATA"),
        ("-d n soup", "%cook needs NAME.", "%cook NAME --data DATA [EXTRA] [options]"),
        ("soup -d n --times", "%cook: --times/-t: expected one argument.", "%cook --help lists the options."),
        ("soup -d", "expected at least one argument", "--help"),
        ("soup -d n -t 2.5", "--times: '2.5' is not a whole number.", ""),
        ("soup -d n --heat hot", "--heat: 'hot' is not a number.", ""),
        ("soup -d n --how fats", "--how: there is no 'fats'.", "Did you mean 'fast'?"),
        ("soup -d n --set a", "--set: 'a' is not of the form key=value.", "hidden=256,128"),
        ("soup -d nobody", "--data: There is no variable 'nobody'.", ""),
        ("soup -d n --quick=3", "ignored explicit argument", "--help"),
    ],
)
def test_what_makes_no_sense_is_told(line: str, message: str, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        COMMAND.parse(line, NAMES)
    assert message in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("line", ["--help", "-h", "soup --help", "--tims 3 --help"])
def test_help_is_always_there(line: str) -> None:
    with pytest.raises(HelpAsked) as caught:
        COMMAND.parse(line, NAMES)
    told = str(caught.value).splitlines()
    assert told[0] == "usage: %cook NAME --data DATA [EXTRA] [options]" and told[2] == "Cook."
    assert "  -t, --times N    how often" in told and "  -q, --quick      hurry" in told
    assert told[-2:] == ["for example:", "  %cook soup --data pot"]
    assert max(map(len, told)) < 100


def test_a_column_of_a_file_wins_over_a_variable() -> None:
    there = {"rows.csv": ["n", "X", "a.b", "p,q", "f(x)"]}
    names = Names({**SPACE, "place": "rows.csv"})

    def read(data: Any) -> list[str]:
        return there.get(data, [])

    for column in ("n", "X", "a.b", "p,q", "f(x)"):
        assert names.target(column, "rows.csv", read) == column
    assert names.target("n,X", "rows.csv", read) == ("n", "X")
    assert names.target("l", "rows.csv", read) is SPACE["l"] and names.target("X", "other.csv", read) is SPACE["X"]
    assert names.target("X[:, 0]", "rows.csv", read).shape == (3,)


@pytest.mark.parametrize(
    "word",
    ["data/foo.xlsx", "foo.xlsx", "./foo.xls", "~/rows.h5", "../there", "/no/such/folder", "my-data/2024.xlsx",
     "foo-2024.ods", "C:\\\\rows.xlsx", "data/part*.xlsx"],
)  # fmt: skip
def test_a_file_that_is_not_there_is_told_as_a_file(word: str) -> None:
    with pytest.raises(OptionError) as caught:
        NAMES.data(word)
    assert caught.value.message == f"There is no file {word!r}, and no variable of this name."
    assert caught.value.hint.startswith("The working folder is ")


@pytest.mark.parametrize(
    ("word", "told"),
    [("dff.head", "There is no variable 'dff'"), ("df.hed", "no attribute 'hed'"), ("df.hed/2", "no attribute 'hed'"),
     ("nobody(3).csv2", "There is no variable 'nobody'")],
)  # fmt: skip
def test_an_expression_that_fails_is_told_as_one(word: str, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        NAMES.data(word)


@pytest.mark.parametrize(("word", "hint"), [("times:t", "time:t or group:t"), ("date:my col", "time:my col or")])
def test_a_split_that_there_is_not_is_told(word: str, hint: str) -> None:
    with pytest.raises(OptionError, match="there is no split") as caught:
        _validation(NAMES, word)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('"my col",ok', ("my col", "ok")), ("ok,'my col'", ("ok", "my col")), ('"my col","other col"', ("my col", "other col")),
        ("'p,q',ok", ("p,q", "ok")), ("'p,q'", ("p,q",)), ("p,q", ("p,q",)), ("'a , b'", ("a", "b")), ("a,b", ("a", "b")),
        ("'r,s'", ("r", "s")), ('"p,q","my col",ok', ("p,q", "my col", "ok")),
        ("a,", ("a",)), ("'my col'", ("my col",)), (r'"say \"so, so\"",ok', ('say "so, so"', "ok")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", [False, True])
def test_columns_between_commas(line: str, found: tuple[str, ...], file: bool) -> None:
    there = ["my col", "ok", "other col", "p,q", "a", "b", "r", "s", 'say "so, so"']
    data: Any = "rows.csv" if file else {name: [1] for name in there}
    (word,) = split(line)
    assert NAMES.listed(word, data, lambda data: there) == found
    assert NAMES.target(word, data, lambda data: there) == (found if len(found) > 1 else found[0])


@pytest.mark.parametrize(
    "word", ["fn", "{fn}", "pick(1)", "{pick(1)}", "fns[0]", "{fns[0]}", "lambda o,t: 0", "{lambda o, t: 0}"]
)
def test_a_function_may_be_of_an_expression(word: str) -> None:
    names = Names({"fn": max, "fns": [max], "pick": lambda n: max})
    option = Command(
        "c", "", (MagicOption(("--loss",), "", lambda n, w: n.choice(w)), MagicOption(("--metrics",), "", commas))
    )
    (word,) = split(word) if "lambda" not in word or word[0] == "{" else [word]
    assert callable(names.choice(names.expand(word)))
    if "lambda" not in word:
        assert option.parse(f"--loss {word}", names)["loss"] is max
        assert option.parse(f"--metrics auc,{word.strip('{}')}", names)["metrics"] == ("auc", max)


def test_metrics_between_commas_may_be_calls_with_commas_of_their_own() -> None:
    names = Names({"make": lambda a, b: max})
    assert commas(names, "auc,make(1, ','),f1") == ("auc", max, "f1")
    with pytest.raises(OptionError, match="is of type int, not a function"):
        Names({"l": [1]}).choice("l[0]")
    assert names.choice(Quoted("make(1, 2)")) == "make(1, 2)"

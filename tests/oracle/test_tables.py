"""What is read of the originals' own tests."""

from __future__ import annotations

from oracle.tables import rows, strings, tokens, unquote

SOURCE = """
// "a comment" {
/* "another" */
var table = []struct{ text string }{
    {"one \\"quoted\\"", '"'}, // "behind"
    {`raw \\n
`, "}"},
}
"""


def test_literals() -> None:
    """Escapes are Go's."""
    assert unquote(r'"\a\n\t\\\"\x41\101é\u00e9\U0001F600"') == '\a\n\t\\"AAéé\U0001f600'
    assert unquote(r'"\xff"').encode("utf-8", "surrogateescape") == b"\xff"
    assert unquote("`a\\n`") == "a\\n"


def test_tokens() -> None:
    """Comments and runes are passed over, whatever is in them."""
    texts = [text for kind, text in tokens(SOURCE) if kind == "text"]
    assert texts == ['one "quoted"', "raw \\n\n", "}"]


def test_a_table_s_rows() -> None:
    """A pattern and what it is to match, in quantities and ignore files, stay together."""
    matches = rows("github.com/moby/patternmatcher", "patternmatcher_test.go")
    assert ["**/*.txt", "file.txt"] in matches
    assert "100m" in strings("k8s.io/apimachinery", "pkg/api/resource/quantity_test.go")

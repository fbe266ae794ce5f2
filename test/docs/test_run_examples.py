#!/usr/bin/env python3
"""The runner of documentation examples: right pages pass, and each way in which a page can be wrong is found."""

import contextlib
import io
import pathlib
import tempfile
import unittest

import run_examples


def run(page, *flags):
    """(exit code, printed text) of the runner on a page with this text."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "page.md"
        path.write_text(page)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = run_examples.main([str(path), *flags])
        return code, out.getvalue()


def console(*lines, options=""):
    return "\n".join([f"```console{options}", *lines, "```", ""])


class Commands(unittest.TestCase):
    def passes(self, page, count=1):
        code, text = run(page)
        self.assertEqual((code, text), (0, f"docs: {count} passed, 0 failed, 0 skipped\n"))

    def fails(self, page, words, *flags):
        code, text = run(page, *flags)
        self.assertEqual(code, 1, text)
        self.assertIn(words, text)

    def test_exit_codes(self):
        self.passes(console("$ true"))
        self.passes(console("$ (exit 3)  # exits with 3"))
        self.fails(console("$ false"), "`false` exits with 1, expected 0")
        self.fails(console("$ true  # exits with 1"), "exits with 0, expected 1")
        self.fails(console("$ false | cat"), "exits with 1")
        self.fails(console("$ no-such-tool --flag"), "exits with 127")

    def test_output(self):
        self.passes(console("$ printf 'a\\n\\nb 12\\n'", "a", "", "b 7"))
        self.passes(console("$ echo 3.25 s, 1,024 tokens", "0.1 s, 9 tokens"))
        self.passes(console("$ seq 30", "1", "...", "30"))
        self.passes(console("$ echo the quick brown fox", "the … fox"))
        self.passes(console("$ echo to stderr >&2", "to stderr"))
        self.fails(console("$ echo a", "b"), "shows 'b', but got 'a'")
        self.fails(console("$ echo a", "a", "b"), "but got the end of the output")
        self.fails(console("$ printf 'a\\nb\\n'", "a"), "shows nothing after 'a', but 'b' came")
        self.fails(console("$ echo ab", "a"), "shows 'a', but got 'ab'")
        self.fails(console("$ echo 12 tokens", "tokens"), "shows 'tokens'")
        self.fails(console("$ echo some tokens", "12 tokens"), "shows '12 tokens'")
        self.fails(console("$ printf 'a\\nx\\nb\\n'", "a", "b", "..."), "shows 'b', but got 'x'")

    def test_dots_backtrack(self):
        self.passes(console("$ printf 'a\\nend\\nb\\nend\\n'", "...", "end"))

    def test_one_shell_per_page(self):
        self.passes(console("$ NAME=moe") + "text\n\n" + console("$ echo $NAME", "moe"), count=2)
        self.passes(console("$ cd test", "$ basename $PWD", "test"), count=2)

    def test_continued_lines(self):
        self.passes(console("$ echo one \\", "  two", "one two"))
        self.passes(console("$ for i in 1 2; do", "> echo line", "> done", "line", "line"))

    def test_timeout_kills_and_goes_on(self):
        code, text = run(console("$ sleep 60", "$ true"), "--timeout", "1")
        self.assertEqual(code, 1)
        self.assertIn("did not end within 1.0 s", text)
        self.assertIn("1 passed, 1 failed", text)

    def test_output_before_a_command(self):
        self.fails(console("output", "$ true"), "output before any '$ ' command")
        self.fails(console(), "without a '$ ' command")

    def test_skips_are_said(self):
        code, text = run(console("$ false", options=" no-run: takes an hour"))
        self.assertEqual(code, 0)
        self.assertIn("takes an hour", text)
        self.assertIn("0 passed, 0 failed, 1 skipped", text)
        self.fails(console("$ false", options=" no-run:"), "needs a reason")
        code, text = run(console("$ false", options=" requires=json,no_such_module"))
        self.assertEqual((code, "needs no_such_module" in text), (0, True))
        self.fails(console("$ false", options=" requires=json"), "exits with 1")

    def test_unmarked_commands_are_errors(self):
        for opening in ("```", "```sh"):
            self.fails(f"{opening}\nbuild/bin/moec compile x -o y\n```\n", "not marked `console`")
        self.passes("```cpp\ncmake is not a command here\n```\n" + console("$ true"))

    def test_a_fence_inside_a_longer_fence(self):
        self.passes("````markdown\n```console\n$ false\n```\n````\n" + console("$ true"))

    def test_list_runs_nothing(self):
        code, text = run(console("$ false"), "--list")
        self.assertEqual(code, 0)
        self.assertIn(": false\n", text)


class Quotes(unittest.TestCase):
    def quote(self, path, *lines):
        return f"<!-- quote: {path} -->\n\n" + "\n".join(["```python", *lines, "```", ""])

    def test_quotes(self):
        page = "test/docs/run_examples.py"
        self.assertEqual(run(self.quote(page, "class Shell:"))[0], 0)
        self.assertEqual(run(self.quote(page, "class Block:", "...", "class Shell:"))[0], 0)
        for path, lines, words in ((page, ["class Shel:"], "no longer has 'class Shel:'"),
                                   (page, ["class Shell:", "...", "class Block:"], "no longer has 'class Block:'"),
                                   (page, ["class Shell:", "class Block:"], "no longer has"),
                                   ("no/such/file.h", ["x"], "does not exist")):
            with self.subTest(lines):
                code, text = run(self.quote(path, *lines))
                self.assertEqual(code, 1)
                self.assertIn(words, text)


if __name__ == "__main__":
    unittest.main()

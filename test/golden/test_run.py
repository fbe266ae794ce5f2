#!/usr/bin/env python3
"""The golden runner against stand-ins for the tools: it must pass right answers and fail each kind of wrong one."""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
import unittest

import numpy as np

import run

# Stand-in tools: `moec` copies the fixture's logits into the package; `moe-run` hands them out, spoiled as MODE says.
MOEC = """
import pathlib, shutil, sys
source, out = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[4])
if {mode!r} == "compile-fails": sys.exit("config.json: unknown model_type 'gpt'")
out.mkdir()
shutil.copy((source if source.is_dir() else source.parent) / "logits.npy", out)
"""
MOE_RUN = """
import sys, time, numpy as np
logits = np.load(sys.argv[2] + "/logits.npy")
mode, chunked = {mode!r}, "--chunks" in sys.argv
if mode == "run-fails": sys.exit("no such kernel")
if mode == "no-output": sys.exit(0)
if mode == "hangs": time.sleep(60)
if mode == "off": logits[1, 2] += 0.5
if mode == "off-when-chunked" and chunked: logits[-1] += 1e-2 * np.arange(logits.shape[1])
if mode == "short": logits = logits[:-1]
if mode == "nan": logits[0, 0] = np.nan
np.save(sys.argv[sys.argv.index("-o") + 1], logits)
"""


class Runner(unittest.TestCase):
    def run_mode(self, mode, *flags, fixtures=("one", "two")):
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            tools = []
            for name, text in (("moec", MOEC), ("moe-run", MOE_RUN)):
                tool = scratch / name
                tool.write_text(f"#!{sys.executable}\n" + text.format(mode=mode))
                os.chmod(tool, 0o755)
                tools.append(str(tool))
            (scratch / "fixtures").mkdir()
            for index, name in enumerate(fixtures):
                folder = scratch / "fixtures" / name
                folder.mkdir()
                (folder / "config.json").write_text("{}")
                (folder / "ids.json").write_text("[[1, 2], [0]]")
                np.save(folder / "logits.npy", np.random.default_rng(index).standard_normal((3, 5)).astype(np.float32))
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                code = run.main(["--moec", tools[0], "--moe-run", tools[1], "--fixtures", str(scratch / "fixtures"),
                                 "--json", str(scratch / "results.json"), *flags])
            return code, out.getvalue(), json.loads((scratch / "results.json").read_text())

    def test_right_answers_pass(self):
        code, text, results = self.run_mode("right")
        self.assertEqual((code, results["passed"], results["failed"]), (0, 2 * 2 * len(run.WAYS), 0))
        self.assertIn("golden: 20 passed, 0 failed (2 fixtures", text)

    def test_wrong_answers_fail(self):
        for mode, words in (("off", "exceeds"), ("short", r"shape [2, 5]"), ("nan", "not finite"), ("no-output", "out.npy"),
                            ("run-fails", "exit code 1: no such kernel")):
            with self.subTest(mode):
                code, text, results = self.run_mode(mode, "--dtype", "f32", "--ways", "one-step")
                self.assertEqual((code, results["passed"], results["failed"]), (1, 0, 2))
                self.assertIn(words, text)

    def test_one_way_of_feeding_is_wrong(self):
        code, _, results = self.run_mode("off-when-chunked", "--dtype", "f32")
        self.assertEqual(code, 1)
        self.assertEqual({c["name"].split("/")[-1] for c in results["cases"] if c["status"] == "failed"},
                         {"token-by-token", "ragged-chunks", "ragged-interleaved"})

    def test_compile_failure_is_one_failure_per_type(self):
        code, text, results = self.run_mode("compile-fails")
        self.assertEqual((code, results["passed"], results["failed"]), (1, 0, 4))
        self.assertIn("unknown model_type", text)

    def test_hanging_tool(self):
        code, text, _ = self.run_mode("hangs", "--timeout", "1", "--ways", "one-step", "--dtype", "f32", fixtures=("one",))
        self.assertEqual(code, 1)
        self.assertIn("longer than 1.0 s", text)

    def test_nothing_to_run_is_a_failure(self):
        self.assertEqual(self.run_mode("right", "--filter", "none-such")[0], 1)


if __name__ == "__main__":
    unittest.main()

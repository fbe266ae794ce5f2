"""The harness must be able to fail: wrong logits, wrong weights and wrong inputs are noticed."""

import unittest

import numpy as np

from check_models import compare
from graph import best, route
from models import MODELS, build
from signature import bind, parse_signature, step_inputs
from tensors import decode, encode, rounded

TEXT = """
module {
  func.func @step(%arg0: tensor<?xi32>, %arg1: tensor<?x?x2x4xbf16> {moe.state = "kv.keys"}, %arg2: tensor<3x2xf32> {moe.weight = "a.{}.b"}) -> (tensor<?x7xf32>, tensor<?x?x2x4xbf16>) {
"""


class Judge(unittest.TestCase):
    def test_bounds(self):
        want = np.array([[1.0, -3.0]])
        self.assertIsNone(compare("x", want + 1e-5, want, "f32"))
        self.assertIn("exceeds", compare("x", want + 1e-4, want, "f32"))
        self.assertIsNone(compare("x", want + 0.02, want, "bf16"))
        self.assertIn("mean", compare("x", want + 0.1, want, "bf16"))
        self.assertIn("max", compare("x", want + 0.5, want, "bf16"))

    def test_form(self):
        want = np.zeros((2, 3))
        self.assertIn("shape", compare("x", want[:1], want, "f32"))
        self.assertIn("not finite", compare("x", want + np.nan, want, "f32"))
        self.assertIsNone(compare("x", want[:0], want[:0], "f32"))


class Text(unittest.TestCase):
    def test_signature(self):
        arguments, results = parse_signature(TEXT)
        self.assertEqual([(a.element, a.shape, a.state, a.weight) for a in arguments],
                         [("i32", [None], None, None), ("bf16", [None, None, 2, 4], "kv.keys", None), ("f32", [3, 2], None, "a.{}.b")])
        self.assertEqual(results, [("f32", [None, 7]), ("bf16", [None, None, 2, 4])])

    def test_wrong_checkpoint(self):
        arguments, _ = parse_signature(TEXT)
        states = {"kv.keys": np.zeros((1, 1, 2, 4), np.uint16)}
        with self.assertRaisesRegex(ValueError, r"'a.\{\}.b' is f32\[3, 5\], but the module says f32\[3, 2\]"):
            bind(arguments, [[1]], states, lambda source, shape: ("f32", np.zeros((3, 5), np.float32)))

    def test_ragged_step(self):
        tokens, seq, pos, runs, rows = step_inputs([[5, 6], [], [7]], start=[3, 0, 1])
        self.assertEqual([list(x) for x in (tokens, seq, pos, runs, rows)], [[5, 6, 7], [0, 0, 2], [3, 4, 1], [0, 2, 2, 3], [0, 1, 2]])


class Numbers(unittest.TestCase):
    def test_bf16_rounds_to_even(self):
        # 1 + 2^-8 and 1 + 3 * 2^-8 are ties between neighbours that are 2^-7 apart.
        self.assertEqual(rounded(np.array([1 + 2**-8, 1 + 3 * 2**-8, -0.0, 3e38]), "bf16").tolist(), [1.0, 1 + 2**-6, 0.0, rounded(3e38, "bf16").item()])
        self.assertTrue(np.isnan(decode(encode(np.array([np.nan]), "bf16"), "bf16"))[0])

    def test_ties_and_masked_groups(self):
        self.assertEqual(best([3, 5, 5, 1], 3), [1, 2, 0])
        ids, weights = route(np.array([[0.6, 0.5, 0.55, 0.1]]), -1.0, 2, "identity", "none", 0.0, 1.0, 2, 1, "top2sum")
        self.assertEqual(ids.tolist(), [[0, 1]])
        self.assertEqual(weights.tolist(), [[0.6, 0.5]])

    def test_a_changed_weight_shows(self):
        inputs = dict(zip(("tokens", "seq", "pos", "runs", "rows"), step_inputs([[1, 2, 3]])))
        for name in MODELS:
            graph, weights = build(name)
            want = graph.evaluate(inputs, weights, graph.zero_states(1, 3))[0]
            weights["embed"] = weights["embed"] * 1.01
            self.assertIsNotNone(compare(name, graph.evaluate(inputs, weights, graph.zero_states(1, 3))[0], want, "f32"))


if __name__ == "__main__":
    unittest.main()

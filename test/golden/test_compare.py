#!/usr/bin/env python3
"""The judge itself: every kind of wrong answer must be refused, and answers inside the bounds accepted."""

import pathlib
import tempfile
import unittest

import numpy as np

import compare
import safetensors_io as st


def reference(rows=6, columns=11):
    logits = np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32) * 3
    logits[:, 4] += 20  # a clear winner
    return logits


class CompareF32(unittest.TestCase):
    def refused(self, logits, words, base=None):
        with self.assertRaisesRegex(compare.Mismatch, words):
            compare.compare_f32(reference() if base is None else base, logits)

    def test_accepts_rounding(self):
        self.assertIn("max|d|", compare.compare_f32(reference(), reference() + np.float32(1e-4)))

    def test_one_element_beyond_the_bound(self):
        logits = reference()
        logits[3, 7] += 4e-4
        self.refused(logits, "exceeds .* at row 3, column 7")

    def test_bound_grows_with_the_logits(self):
        base = reference() * 10
        bound = 1e-5 * np.abs(base).max()
        self.assertGreater(bound, 2e-4)
        compare.compare_f32(base, base + np.float32(0.8 * bound))
        self.refused(base + np.float32(1.3 * bound), "exceeds", base)

    def test_not_finite(self):
        for value in (np.nan, np.inf, -np.inf):
            logits = reference()
            logits[5, 0] = value
            self.refused(logits, "not finite; the first is .* at row 5, column 0")

    def test_shape_and_type(self):
        self.refused(reference()[:-1], r"shape \[5, 11\], expected \[6, 11\]")
        self.refused(reference()[:, :1], "shape")
        self.refused(reference().astype(np.float64), "float64")

    def test_rows_exchanged(self):
        self.refused(reference()[[1, 0, 2, 3, 4, 5]], "exceeds")

    def test_winner_matters_only_where_clear(self):
        base = np.zeros((2, 3), np.float32)
        base[:, 0], base[:, 1] = 1.0, 1.0 - 1e-4  # nearly tied: either may win
        other = base.copy()
        other[:, 0] -= 1.5e-4
        compare.compare_f32(base, other)
        base[0, 1] = 1.0 - 4.5e-4  # clear
        other = base.copy()
        other[0, 0], other[0, 1] = 1.0 - 1.9e-4, 1.0 - 2.6e-4
        compare.compare_f32(base, other)

    def test_single_column(self):
        compare.compare_f32(np.ones((3, 1), np.float32), np.ones((3, 1), np.float32))


class CompareBF16(unittest.TestCase):
    def test_accepts_small_noise_and_shift(self):
        noise = np.random.default_rng(1).standard_normal(reference().shape).astype(np.float32)
        compare.compare_bf16(reference(), reference() + 0.01 * noise)
        compare.compare_bf16(reference(), reference() + np.float32(5))  # softmax does not see a shift

    def test_refuses(self):
        flat = np.random.default_rng(2).standard_normal((6, 11)).astype(np.float32)
        noise = np.random.default_rng(1).standard_normal((6, 11)).astype(np.float32)
        with self.assertRaisesRegex(compare.Mismatch, "mean KL"):
            compare.compare_bf16(flat, flat + 0.2 * noise)
        logits = reference()
        logits[0, 0] = np.nan
        with self.assertRaisesRegex(compare.Mismatch, "not finite"):
            compare.compare_bf16(reference(), logits)

    def test_value(self):
        base = np.log(np.array([[0.5, 0.5]], np.float32))
        other = np.log(np.array([[0.25, 0.75]], np.float32))
        self.assertAlmostEqual(compare.mean_kl(base, other), 0.5 * np.log(2) + 0.5 * np.log(2 / 3), places=6)


class Safetensors(unittest.TestCase):
    def test_round_trip_in_both_alignments(self):
        tensors = {"a": st.to_storage(np.arange(6.0).reshape(2, 3), "bfloat16"),
                   "b": st.to_storage([0.1], "float32"), "c": st.to_storage([[1.5, -2]], "float16")}
        for unaligned in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                path = pathlib.Path(folder) / "x.safetensors"
                st.write(path, tensors, unaligned)
                size = int.from_bytes(path.read_bytes()[:8], "little")
                self.assertEqual(size % 2, int(unaligned))
                self.assertEqual(st.read(path), tensors)

    def test_bfloat16_rounds_to_nearest_even(self):
        values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-8 + 2.0**-20, -1 - 2.0**-8], np.float32)
        expected = [1.0, 1 + 2.0**-6, 1 + 2.0**-7, -1.0]
        np.testing.assert_array_equal(st.from_storage(st.to_storage(values, "bfloat16")), expected)


if __name__ == "__main__":
    unittest.main()

"""check_recording.py PAIRS COUNTS TOKENS K: a recording with pairs agrees with itself, and with one that has counts only.

Of T tokens that choose K experts each: counts add up to T K, first choices to T, probabilities to 1, pairs to
T K (K - 1) / 2, and every expert's pairs to K - 1 times its count; windows add up to the whole.
"""
import json
import sys

full, plain = (json.load(open(path)) for path in sys.argv[1:3])
tokens, k = int(sys.argv[3]), int(sys.argv[4])
profile, other = full["profiles"][0], plain["profiles"][0]
assert full["top_k"] == k and full["experts"] == len(profile["counts"][0]) and full["layers"] == plain["layers"]
assert profile["counts"] == other["counts"] and "pairs" not in other and "probabilities" not in other
for layer, counts in enumerate(profile["counts"]):
    assert sum(counts) == tokens * k, (layer, sum(counts))
    assert sum(profile["first_counts"][layer]) == tokens
    assert all(first <= count for first, count in zip(profile["first_counts"][layer], counts))
    assert abs(sum(profile["probabilities"][layer]) - 1) < 1e-6
    company = [0] * len(counts)
    for i, j, n in profile["pairs"][layer]:
        assert 0 <= i < j < len(counts) and n > 0
        company[i] += n
        company[j] += n
    assert company == [(k - 1) * count for count in counts], layer
    windows = [window["counts"][layer] for window in profile["windows"]]
    assert [sum(column) for column in zip(*windows)] == counts
print(len(profile["windows"]), "windows,", len(other["windows"]), "windows")

#!/usr/bin/env python3
"""Writes the tokenizer fixtures beside this file: small tokenizer.json files of the kinds that models ship, trained on the
text below, and what the `tokenizers` package (pip install tokenizers) does with a list of texts.

Run it to add a kind or a text: python3 generate.py. TokenizerTest.cpp reads the result; it needs no Python."""
import json
import pathlib
import random

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent

CORPUS = """The router sends each token to two of the sixteen experts, and nobody asks the others. It's what we've always done;
they'll tell you it isn't, but I'm sure that you'd agree. In 2024 there were 1234567 tokens, 98.6 % of them short.
for (int i = 0; i < count; ++i) { total += values[i] * 2; } // sums them
def route(scores, k):
    return sorted(range(len(scores)), key=lambda e: -scores[e])[:k]
Der Zug fährt über die Brücke, während der Regen fällt. L'été dernier, nous avons mangé des crêpes à la plage.
El niño comió piña en la montaña mañana. Zażółć gęślą jaźń. Съешь ещё этих мягких французских булок.
今日は天気がいいですね。東京へ行きました。我们今天去公园散步。모델이 토큰을 생성합니다.
The the THE then there these those that this thing think thought through though. over under after before about
""" * 3

TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", "\t\tx", " leading", "trailing ", "two  spaces   three", "a\n b\r\n  c \n\n d",
    "The router sends each token to two experts.", "It's what we've done; they'll say I'M SURE YOU'D agree.",
    "12345678 and 3.14159, 1,000,000; ½ ² ٣٤ Ⅷ", "for (int i = 0; i < n; ++i) {\n\ttotal += values[i] * 2;\n}\n",
    "def route(scores, k):\n    return sorted(scores)[:k]\n\n\n", "Zażółć gęślą jaźń", "Съешь ещё этих булок",
    "今日は天気がいいですね。東京", "我们今天去公园散步。", "모델이 토큰을", "👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 👍🏽 ok 😀😃😄",
    "e\u0301 versus \u00e9, \u1100\u1161 versus \uac00, \ufb01 ligature", "a\u00a0b\u2003c\u3000d\u2028e\u0085f\u200bg",
    "<s>hello</s>", "x <mask> y", "x<mask>y", "  <mask>  ", "<left>  a  <left>", "a <right>   b", "one <word> two<word>three word",
    "<tool>call</tool> <s><s>", "▁already▁marked ▁", "\u0000\u0001\u007f", "\U0010ffff\U000e0001", "ſhort 'ſ 'S 'LL",
    "path/to/file?x=1&y=%20#frag a.b@c.d", "$$$ !!! ... --- ___ (((nested)))", "camelCaseWordsAndSNAKE_CASE_42",
    "שלום עולם مرحبا بالعالم नमस्ते สวัสดี", "a" * 300, " " * 100 + "x" + "\n" * 50, "tab\tand\vand\fand\rdone",
    "don't DON'T don’t", "mixed日本語and한국어text", "∑∫√π≈3.14159 ≠ ∞", "ﬀ ﬁ ﬂ ＡＢＣ １２３", "İstanbul ẞ ß ς Σ",
    "\ud7ff\ue000\ufffd",
]
rng = random.Random(1)
ALPHABET = list("abcdefgXYZ 019 .,'\n\t-_") + ["é", "ß", "日", "👍", "\u0301", "  ", "the", "ing", "\u00a0", "<s>", "'s"]
TEXTS += ["".join(rng.choice(ALPHABET) for _ in range(rng.randint(5, 60))) for _ in range(30)]

GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
QWEN = GPT4.replace("{1,3}", "")
DEEPSEEK = (r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
            r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
ADDED = [AddedToken("<s>", special=True, normalized=False), AddedToken("</s>", special=True, normalized=False),
         AddedToken("<mask>", special=True, normalized=False, lstrip=True),
         AddedToken("<left>", special=False, normalized=True, lstrip=True),
         AddedToken("<right>", special=False, normalized=False, rstrip=True),
         AddedToken("<word>", special=False, normalized=False, single_word=True),
         AddedToken("<tool>", special=False, normalized=False), AddedToken("</tool>", special=False, normalized=False),
         AddedToken("<s><s>", special=True, normalized=False)]


def train(tokenizer, size, alphabet=(), special=("<unk>", "<s>", "</s>")):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(special), initial_alphabet=list(alphabet),
                                  show_progress=False)
    tokenizer.train_from_iterator(CORPUS.split("\n"), trainer)
    return tokenizer


def byte_level(pre, normalizer=None, post=None, size=420, **model):
    tokenizer = Tokenizer(models.BPE(**model))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    train(tokenizer, size, pre_tokenizers.ByteLevel.alphabet(), special=("<s>", "</s>"))
    tokenizer.add_tokens(ADDED)
    tokenizer.decoder = decoders.ByteLevel()
    if post:
        tokenizer.post_processor = post
    return tokenizer


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(pattern), behavior, invert)


def template(before=("<s>",), after=()):
    single = " ".join(before) + " $A " + " ".join(after)
    return processors.TemplateProcessing(single=single.strip(), pair=single.strip() + " $B",
                                         special_tokens=[(name, 0 if name == "<s>" else 1) for name in {*before, *after}])


def sentence_piece(legacy, **model):
    """As Llama-2 and Mixtral: the space is a character, unknown characters become byte tokens."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    if not legacy:
        tokenizer.normalizer = None
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    shadow = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    shadow.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    train(shadow, 560, special=special)
    trained = json.loads(shadow.to_str())
    whole = json.loads(tokenizer.to_str())
    whole["model"] = trained["model"]
    whole["model"]["merges"] = [merge if isinstance(merge, list) else merge.split(" ") for merge in trained["model"]["merges"]]
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    tokenizer.add_tokens(ADDED)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    if not legacy:
        tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    return tokenizer


def oddities():
    """Behaviours that no large model combines, with an unknown token that does not fuse, and no decoder."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex("[xyz]+"), "q")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        split(r"[\r\n]+", "removed"), split(r"\p{Lu}", "merged_with_next"), split(r"[,.;]", "merged_with_previous"),
        split(r"-", "contiguous"), pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Punctuation("isolated"), split(r"\w+|[^\w\s]+", "removed", invert=True)])
    train(tokenizer, 330)
    tokenizer.add_tokens(ADDED)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


KINDS = {
    "gpt2": byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), post=processors.ByteLevel(trim_offsets=True)),
    "llama3": byte_level(pre_tokenizers.Sequence([split(GPT4), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                         ignore_merges=True, post=processors.Sequence([processors.ByteLevel(trim_offsets=False), template()])),
    "qwen2": byte_level(pre_tokenizers.Sequence([split(QWEN), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
                        normalizer=normalizers.NFC(), post=processors.ByteLevel(trim_offsets=False)),
    "deepseek": byte_level(pre_tokenizers.Sequence([
        split(r"\p{N}{1,3}"), split(r"[一-龥\u3040-ゟ゠-ヿ]+"), split(DEEPSEEK),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
        normalizer=normalizers.Sequence([]), post=template(("<s>",), ("</s>",))),
    "smollm": byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                  pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])),
    "llama2": sentence_piece(legacy=True),
    "mistral": sentence_piece(legacy=False),
    "oddities": oddities(),
}

for name, tokenizer in KINDS.items():
    text = tokenizer.to_str()
    if name == "gpt2":  # The notation of older files.
        tree = json.loads(text)
        tree["model"]["merges"] = [" ".join(merge) for merge in tree["model"]["merges"]]
        text = json.dumps(tree, ensure_ascii=False)
    (HERE / f"{name}.json").write_text(text + "\n")
    reader = Tokenizer.from_str(text)
    cases = []
    for sample in TEXTS:
        ids = reader.encode(sample).ids
        plain = reader.encode(sample, add_special_tokens=False).ids
        assert ids[len(ids) - len(plain) - (name in ("deepseek", "oddities")):][:len(plain)] == plain
        cases.append([sample, ids, reader.decode(ids), reader.decode(ids, skip_special_tokens=False)])
    # Ids that no text gives: broken characters, a broken run of byte tokens, an id beyond the vocabulary.
    loose = []
    for _ in range(40):
        ids = [rng.randrange(reader.get_vocab_size() + 3) for _ in range(rng.randint(1, 12))]
        loose.append([ids, reader.decode(ids), reader.decode(ids, skip_special_tokens=False)])
    (HERE / f"{name}.cases.json").write_text(
        json.dumps({"tokenizers": tokenizers.__version__, "encode": cases, "decode": loose}, ensure_ascii=False,
                   separators=(",", ":")) + "\n", errors="surrogatepass")
    print(name, reader.get_vocab_size(), len(cases), "texts")

#!/usr/bin/env python3
"""A small distillation after a fusion: the fused model learns its parent's next-token distributions and hidden states.

    distill.py text -o text.txt [--bytes N]                     text for moe-run calibrate
    distill.py kl PARENT STUDENT...                             mean KL(parent || student) on held-out text
    distill.py train PARENT STUDENT -o OUT [--steps N]          trains, and writes OUT: the student's directory, new weights

PARENT is a Hugging Face directory, STUDENT what `moec export --for transformers` made of it. The text is Python's own
standard library, which is wherever this runs (files are held out by their names), and ids that the parent itself samples,
for the kinds of text that it knows beside Python. The loss is that of Puzzle and FFN Fusion: KL of the logits plus, for
every layer of the student, 1 - cosine of its output and that of the last parent layer that it stands for.
Needs torch, transformers and safetensors. On one CPU it is for models of some millions of parameters; the point is the recipe.
"""

import argparse
import hashlib
import json
import math
import os
import pathlib
import shutil
import sys
import sysconfig
import time

HELD_OUT = 8  # one file in so many is kept from training
LENGTH = 128


def library_text(held_out):
    """The standard library's modules, one after the other, of one side of the split."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(folder.glob("*.py")):
        if (hashlib.sha256(path.name.encode()).digest()[0] % HELD_OUT == 0) == held_out:
            yield path.read_text(encoding="utf-8", errors="replace")


def load(path):
    import torch
    import transformers
    config = json.loads((path / "config.json").read_text())
    if config["model_type"] == "nemotron-nas":
        sys.exit(f"{path}: transformers has no class for nemotron-nas; export the plan with --for transformers (form P)")
    return transformers.AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, dtype=torch.float32)


def sample(model, count, seed):
    """`count` sequences of LENGTH + 1 ids from the model itself, each from another first token."""
    import torch
    generator = torch.Generator().manual_seed(seed)
    vocab = model.config.vocab_size
    ids = torch.randint(vocab, (count, 1), generator=generator)
    out, past = [ids], None
    with torch.no_grad():
        for _ in range(LENGTH):
            step = model(ids, past_key_values=past, use_cache=True)
            past = step.past_key_values
            ids = torch.multinomial(step.logits[:, -1].softmax(-1), 1, generator=generator)
            out.append(ids)
    return torch.cat(out, 1)


def sequences(parent, path, count, held_out):
    """Half of the library, half sampled; [count, LENGTH + 1]."""
    import tokenizers
    import torch
    tokenizer = tokenizers.Tokenizer.from_file(str(path / "tokenizer.json"))
    ids = [token for text in library_text(held_out) for token in tokenizer.encode(text).ids]
    library = torch.tensor(ids[:len(ids) // (LENGTH + 1) * (LENGTH + 1)]).view(-1, LENGTH + 1)
    order = torch.randperm(len(library), generator=torch.Generator().manual_seed(1))
    half = count // 2
    return torch.cat([library[order[:half]], sample(parent, count - half, seed=2 if held_out else 3)])


def kl_of(parent, student, batch):
    """Per token, [batch, tokens]."""
    return (parent.log_softmax(-1).exp() * (parent.log_softmax(-1) - student.log_softmax(-1))).sum(-1)


def evaluate(parent, student, text):
    import torch
    total, same, tokens = [0.0, 0.0], 0, 0
    half = len(text) // 2
    with torch.no_grad():
        for i in range(0, len(text), 8):
            batch = text[i:i + 8, :-1]
            a, b = parent(batch).logits, student(batch).logits
            for row, kl in enumerate(kl_of(a, b, batch).mean(1).tolist()):
                total[(i + row) >= half] += kl
            same += int((a.argmax(-1) == b.argmax(-1)).sum())
            tokens += batch.numel()
    return {"kl": sum(total) / len(text), "kl_library": total[0] / half, "kl_sampled": total[1] / (len(text) - half),
            "same_winner": same / tokens, "tokens": tokens}


def counterparts(path, parent):
    """For every layer of the student, the parent's layer whose output it should give."""
    facts = json.loads((path / "moe-opt-export.json").read_text())
    last = [layer["layers"][1] for layer in facts["layers"]]
    assert last == sorted(last) and last[-1] == parent.config.num_hidden_layers - 1, last
    return last


def write_model(student, source, out):
    """Whole or not at all: a folder beside `out`, renamed."""
    from safetensors.torch import save_file
    tied = student.config.tie_word_embeddings
    weights = {name: value.contiguous() for name, value in student.state_dict().items() if not (tied and name == "lm_head.weight")}
    temporary = out.with_name(f"{out.name}.tmp-{os.getpid()}")
    temporary.mkdir(parents=True)
    for file in source.iterdir():
        if file.is_file() and not file.name.endswith((".safetensors", ".safetensors.index.json")):
            shutil.copy(file, temporary)
    config = json.loads((source / "config.json").read_text())
    config["dtype"] = config["torch_dtype"] = "float32"
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(weights, temporary / "model.safetensors", {"format": "pt"})
    temporary.rename(out)


def train(args):
    import torch
    import torch.nn.functional as functional
    torch.manual_seed(0)
    if args.out.exists():
        sys.exit(f"{args.out}: exists already; give another name")
    parent, student = load(args.parent).eval(), load(args.students[0]).train()
    last = counterparts(args.students[0], parent)
    text, held_out = sequences(parent, args.parent, args.sequences, False), sequences(parent, args.parent, args.held_out, True)
    before = evaluate(parent, student.eval(), held_out)
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.rate, betas=(0.9, 0.95), weight_decay=0.0)
    warm = max(1, args.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / args.steps))))
    begun = time.time()
    for step in range(args.steps):
        batch = text[torch.randint(len(text), (args.batch,))][:, :-1]
        with torch.no_grad():
            target = parent(batch, output_hidden_states=True)
        given = student(batch, output_hidden_states=True)
        kl = kl_of(target.logits, given.logits, batch).mean()
        # hidden_states[0] is the embedding; the last entry is normed in both models.
        hidden = sum(1 - functional.cosine_similarity(given.hidden_states[i + 1], target.hidden_states[layer + 1], dim=-1).mean()
                     for i, layer in enumerate(last)) / len(last)
        optimizer.zero_grad()
        (kl + args.hidden * hidden).backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, args.steps // 10) == 0:
            print(f"step {step + 1}/{args.steps}: KL {kl.item():.4f}, 1 - cosine {hidden.item():.5f}, {time.time() - begun:.0f} s",
                  file=sys.stderr, flush=True)
    after = evaluate(parent, student.eval(), held_out)
    write_model(student, args.students[0], args.out)
    print(json.dumps({"before": before, "after": after, "steps": args.steps, "seconds": round(time.time() - begun)}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    text = commands.add_parser("text")
    text.add_argument("-o", dest="out", type=pathlib.Path, required=True)
    text.add_argument("--bytes", type=int, default=100000)
    for name in ("kl", "train"):
        command = commands.add_parser(name)
        command.add_argument("parent", type=pathlib.Path)
        command.add_argument("students", type=pathlib.Path, nargs="+" if name == "kl" else 1)
        command.add_argument("--held-out", type=int, default=64, help="sequences of 128 tokens that are judged")
    command.add_argument("-o", dest="out", type=pathlib.Path, required=True)
    command.add_argument("--steps", type=int, default=300)
    command.add_argument("--batch", type=int, default=8)
    command.add_argument("--sequences", type=int, default=1024, help="for training")
    command.add_argument("--rate", type=float, default=3e-4)
    command.add_argument("--hidden", type=float, default=1.0, help="weight of the hidden states' loss")
    args = parser.parse_args()
    if args.command == "text":
        # Enough from every file, so that one module does not fill it.
        parts = [part[:4000] for part in library_text(held_out=False)]
        args.out.write_text("".join(parts)[:args.bytes])
    elif args.command == "kl":
        parent = load(args.parent).eval()
        held_out = sequences(parent, args.parent, args.held_out, True)
        for student in args.students:
            print(json.dumps({"model": student.name, **evaluate(parent, load(student).eval(), held_out)}), flush=True)
    else:
        train(args)


if __name__ == "__main__":
    main()

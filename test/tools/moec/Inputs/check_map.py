"""Checks a map file as the loader of its engine would: check_map.py FORMAT FILE LAYERS EXPERTS RANKS SLOTS."""

import json
import sys

fmt, path = sys.argv[1:3]
layers, experts, ranks, slots = map(int, sys.argv[3:])
text = open(path).read()


def check_row(row):
    assert len(row) == slots and slots % ranks == 0, row
    assert set(row) == set(range(experts)), row


if fmt == "sglang":
    data = json.loads(text)
    # init_by_mapping(**data): another key is a TypeError there.
    assert list(data) == ["physical_to_logical_map"]
    rows = data["physical_to_logical_map"]
    assert len(rows) == layers
elif fmt == "trtllm":
    # YAML of this simple kind: a strict model with these three keys.
    lines = text.splitlines()
    head = [line.split(":")[0] for line in lines if not line.startswith(" ")]
    assert head == ["num_slots", "initial_global_assignments", "layer_updates_per_iter"], head
    assert lines[0] == f"num_slots: {slots}" and lines[-1] == "layer_updates_per_iter: 0"
    table = dict(line.strip().split(": ", 1) for line in lines[2:-1])
    assert sorted(map(int, table)) == list(range(layers))
    rows = [json.loads(row) for row in table.values()]
elif fmt == "vllm-ascend":
    data = json.loads(text)
    assert data["moe_layer_count"] == len(data["layer_list"]) == layers
    rows = []
    for index, layer in enumerate(data["layer_list"]):
        assert layer["layer_id"] == index and layer["device_count"] == len(layer["device_list"]) == ranks
        lists = [device["device_expert"] for device in layer["device_list"]]
        assert [device["device_id"] for device in layer["device_list"]] == list(range(ranks))
        assert all(len(part) == slots // ranks == len(set(part)) for part in lists)
        rows.append(sum(lists, []))
else:
    data = json.loads(text)
    assert (data["format"], data["version"]) == ("moe-placement", 1)
    rows = [layer["slots"] for layer in data["layers"]]
    assert [layer["layer"] for layer in data["layers"]] == list(range(layers))
for row in rows:
    check_row(row)
print("valid", fmt)
